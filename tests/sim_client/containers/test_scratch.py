"""The folder of simulators in containers: removed at the end, or by a later run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sim_client.containers.owner import Owner
from sim_client.containers.scratch import scratch_folder

# The kernel gives out process ids below 2**22.
_NO_PROCESS = 2**22


def test_it_is_there_for_the_run_alone_and_with_all_that_is_in_it(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, run_id="ab12", owner=Owner.this_process()) as folder:
        (folder / "1").mkdir()
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_run_removes_what_a_killed_runner_left_from_its_first_moment_on(tmp_path: Path) -> None:
    here = Owner.this_process()
    killed = scratch_folder(tmp_path, run_id="ab12", owner=replace(here, pid=_NO_PROCESS))
    left = killed.__enter__()
    assert list(left.iterdir()) == []
    with scratch_folder(tmp_path, run_id="cd34", owner=here) as folder:
        assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    "change",
    [{}, {"boot_id": "another"}, {"pid": _NO_PROCESS, "pid_namespace": "1"}],
    ids=["alive", "another boot", "another container"],
)
def test_whose_owner_may_be_alive_stays(tmp_path: Path, change: dict) -> None:
    here = Owner.this_process()
    with (
        scratch_folder(tmp_path, run_id="ab12", owner=replace(here, **change)) as other,
        scratch_folder(tmp_path, run_id="cd34", owner=here),
    ):
        assert other.is_dir()


def test_what_another_program_left_stays(tmp_path: Path) -> None:
    for name in (".simulators-", ".simulators-ab12", ".simulators-ab12-1.2.3"):
        (tmp_path / name).mkdir()
    with scratch_folder(tmp_path, run_id="cd34", owner=Owner.this_process()):
        pass
    assert len(list(tmp_path.iterdir())) == 3
