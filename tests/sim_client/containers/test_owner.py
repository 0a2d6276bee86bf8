"""Whose container may be removed by whom."""

from dataclasses import replace
from pathlib import Path

import pytest

from sim_client.containers.owner import OUTPUT_LABEL, OWNER_LABEL, RUN_LABEL, Owner, is_orphan
from sim_client.containers.owner import labels as labels_of

HERE = Owner.this_process()
# Nobody has this id for long enough to have started at the boot's first tick.
GONE = replace(HERE, start_ticks=1)
OUTPUT = Path("/results/hold")


def is_removed(labels: dict[str, str]) -> bool:
    return is_orphan(labels, run_id="this run", here=HERE, output=OUTPUT)


def test_only_a_container_of_a_dead_run_into_this_folder_is_an_orphan() -> None:
    orphan = labels_of(run_id="an earlier run", owner=GONE, output=OUTPUT)
    assert is_removed(orphan)
    # An owner that is another process by now, though it has the same id.
    assert is_removed(orphan | {OWNER_LABEL: str(replace(HERE, start_ticks=HERE.start_ticks + 1))})


@pytest.mark.parametrize(
    "change",
    [
        {OWNER_LABEL: str(HERE)},
        {OUTPUT_LABEL: "/results/another"},
        {RUN_LABEL: "this run"},
        # What this process can't see into: another boot's, another namespace's, nobody's.
        {OWNER_LABEL: str(replace(GONE, boot_id="another-boot"))},
        {OWNER_LABEL: str(replace(GONE, pid_namespace="1"))},
        {OWNER_LABEL: "1.2.3"},
        {OWNER_LABEL: "-1.2.3.x"},
        {OWNER_LABEL: ""},
    ],
)
def test_whatever_cannot_be_told_is_left_alone(change: dict[str, str]) -> None:
    orphan = labels_of(run_id="an earlier run", owner=GONE, output=OUTPUT)
    assert not is_removed(orphan | change)


def test_a_container_without_one_of_the_labels_is_left_alone() -> None:
    orphan = labels_of(run_id="an earlier run", owner=GONE, output=OUTPUT)
    for name in orphan:
        assert not is_removed({key: value for key, value in orphan.items() if key != name})
