"""What a program says of the image that it is in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from policy_interface.image_bill import BILL_VARIABLE, image_facts

PROJECT = Path(__file__).parents[2]


def test_its_bill_is_told_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_facts.cache_clear()
    monkeypatch.delenv(BILL_VARIABLE, raising=False)
    assert image_facts() == {}

    bill = tmp_path / "sbom.cdx.json"
    for contents, told in ((None, {}), (b"{}", hashlib.sha256(b"{}").hexdigest())):
        if contents is not None:
            bill.write_bytes(contents)
        image_facts.cache_clear()
        monkeypatch.setenv(BILL_VARIABLE, str(bill))
        assert image_facts() == (told and {"image_bill": f"sha256:{told}"})
    image_facts.cache_clear()


def test_images_say_where_it_is() -> None:
    assert f"{BILL_VARIABLE}=" in (PROJECT / "docker" / "Dockerfile").read_text()
