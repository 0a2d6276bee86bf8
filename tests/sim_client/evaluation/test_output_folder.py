"""A policy's name as a folder's."""

from __future__ import annotations

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from sim_client.evaluation.output_folder import folder_name


@given(st.text(max_size=300))
def test_any_name_is_one_harmless_component(name: str) -> None:
    folder = folder_name(name)
    assert PurePosixPath(folder).parts == (folder,)
    assert folder.isascii()
    assert folder.isprintable()
    assert not folder.startswith((".", "-"))
    assert len(folder) <= 100


@given(st.text(max_size=20), st.text(max_size=20))
def test_two_names_never_share_a_folder(first: str, second: str) -> None:
    assert (folder_name(first) == folder_name(second)) == (first == second)


@given(st.from_regex(r"[a-z][a-z0-9_.-]{0,40}", fullmatch=True))
def test_a_plain_name_is_kept(name: str) -> None:
    assert folder_name(name) == name
