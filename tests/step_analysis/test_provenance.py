"""What a report says of where its numbers came from."""

from pathlib import Path

import pytest

from step_analysis.comparison import compare
from step_analysis.ledger import LEDGER_FILE_NAME, LedgerError
from step_analysis.loading import load_rollouts, read_rollouts
from step_analysis.provenance import PROVENANCE_FILE_NAME, Provenance, read_provenance
from step_analysis.report.content import build_content

PROVENANCE = Provenance(
    policy={"name": "trained", "checkpoint": "aa"},
    servers=({"torch": "2.7.0", "device": "cpu"},),
    simulators=(
        {"drake": "1.51.1", "gl_renderer": "own by llvmpipe"},
        {"drake": "1.51.1", "gl_renderer": "<b>own by a GPU</b>"},
    ),
    protocol={"latency_ms": 0.0},
    seeds={"first_seed": 100},
)


@pytest.fixture
def root(make_evaluation, tmp_path: Path) -> Path:
    return make_evaluation("trained", "1101")


def beside_the_ledger(root: Path) -> Path:
    (ledger,) = root.rglob(LEDGER_FILE_NAME)
    return ledger.with_name(PROVENANCE_FILE_NAME)


def test_the_report_tells_what_served_and_what_simulated(root: Path) -> None:
    path = beside_the_ledger(root)
    path.write_text(PROVENANCE.to_json())
    assert read_provenance(path) == PROVENANCE
    content = build_content(
        compare(load_rollouts([root])), confidence=0.95, arguments=["report"], findings=[]
    )
    (entry,) = content.provenance
    facts = dict(entry.facts)
    assert facts["Served by"] == "torch 2.7.0; device cpu"
    assert facts["Simulated by, 1 of 2"] == "drake 1.51.1; gl_renderer own by llvmpipe"
    assert facts["Simulated by, 2 of 2"] == "drake 1.51.1; gl_renderer <b>own by a GPU</b>"


def test_it_is_no_file_of_rollouts(root: Path) -> None:
    beside_the_ledger(root).write_text(PROVENANCE.to_json())
    assert read_rollouts([root]).left_out == ()


def test_a_broken_one_is_named_in_one_line(root: Path) -> None:
    path = beside_the_ledger(root)
    path.write_text('{"version": 1, "policy": {}, "servers": 3}')
    with pytest.raises(LedgerError, match=f"{path}: provenance: missing simulators") as caught:
        load_rollouts([root])
    assert "\n" not in str(caught.value)
