"""The committed stubs are what the `.proto` sources make."""

from pathlib import Path

import policy_interface.generate as stubs


def test_the_stubs_are_fresh(tmp_path: Path) -> None:
    made = {path.name: path.read_text() for path in stubs.generate(tmp_path)}
    folder = stubs.PACKAGE / "generated"
    committed = {path.name: path.read_text() for path in folder.glob("*/*_pb2*.py*")}
    assert made.keys() == committed.keys()
    stale = [name for name in made if made[name] != committed[name]]
    assert not stale, f"{stale} are not what the sources make: run `make stubs`"
