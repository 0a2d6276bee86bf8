"""docs/results.md says what its ledgers say, and a ledger what was evaluated."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from sim_client.tasks.catalog import TASKS
from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, Ledger, write_design
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord
from step_analysis.strict_json import FormatError
from trainer.configuration_json import config_to_json
from trainer.recipes.catalog import find_recipe

_DOCS = Path(__file__).parents[2] / "docs"


def test_page_is_fresh(example: Any):
    drawn = example("results_page").draw(_DOCS / "results")
    assert "results.md" in drawn
    for path, content in drawn.items():
        assert (_DOCS / path).read_text() == content, f"docs/{path}: run `make results`"


def test_kept_results_are_of_whole_evaluations_without_errors(example: Any):
    for group in example("results_page").GROUPS:
        for result in example("results_ledger").read_results(_DOCS / "results" / group):
            for evaluated in result.evaluations:
                assert "E" not in evaluated.outcomes, result.name


def _evaluate(
    folder: Path,
    outcomes: list[Outcome],
    *,
    num_episodes: int,
    task: str = "PickAndPlaceBox",
    details: list[Mapping[str, bool | float]] | None = None,
    digest: str = "0" * 64,
) -> None:
    """A ledger of these outcomes, the last episode of them first."""
    folder.mkdir(parents=True)
    design = EvaluationDesign(
        policy="box",
        policy_digest=digest,
        tasks=(task,),
        first_episode=500,
        num_episodes=num_episodes,
        max_sample_size=num_episodes,
        station={"shift": "", "latency_ms": 100.0},
        software={"assay": "0", "assay.execution": "rtc", "assay.max_batch_size": "16"},
    )
    write_design(folder / DESIGN_FILE_NAME, design)
    with Ledger(folder / LEDGER_FILE_NAME) as ledger:
        for index, outcome in reversed(list(enumerate(outcomes))):
            ledger.append(
                RolloutRecord(
                    policy="box",
                    task=task,
                    scenario_index=500 + index,
                    seed=index,
                    outcome=outcome,
                    duration_s=4.0 + index,
                    detail={} if details is None else details[index],
                )
            )


def test_collecting_keeps_whole_evaluations(example: Any, tmp_path: Path):
    outcomes = [Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS, Outcome.TIMEOUT]
    _evaluate(tmp_path / "run" / "whole" / "box", outcomes, num_episodes=4)
    _evaluate(tmp_path / "run" / "half" / "box", outcomes, num_episodes=5)
    ledgers = example("results_ledger")
    (evaluated,) = ledgers.read_evaluations(tmp_path / "run")
    assert (evaluated.outcomes, evaluated.episodes) == ("SFST", "500:504")
    assert (evaluated.latency_ms, evaluated.execution) == (100.0, "rtc")
    assert evaluated.success_s == 5.0  # of 4 and 6
    assert evaluated.choices == ""
    result = ledgers.Result(name="box", training=None, evaluations=[evaluated])
    ledgers.write_result(tmp_path / "kept", result)
    assert ledgers.read_results(tmp_path / "kept") == [result]


def test_a_result_with_a_field_too_many_is_refused(example: Any, tmp_path: Path):
    ledgers = example("results_ledger")
    path = ledgers.write_result(tmp_path, ledgers.Result(name="box", training=None, evaluations=[]))
    path.write_text(path.read_text().replace('"name"', '"mark": 1, "name"'))
    with pytest.raises(FormatError, match=r"box\.json: .*mark"):
        ledgers.read_results(tmp_path)


def _moved(**moved_s: float | None) -> dict[str, bool | float]:
    """As a simulator records when each object was first moved, None where it never was."""
    told: dict[str, bool | float] = {f"{name}_moved": t is not None for name, t in moved_s.items()}
    return told | {f"{name}_moved_s": t for name, t in moved_s.items() if t is not None}


def test_collecting_keeps_which_object_was_moved_first(example: Any, tmp_path: Path):
    details = [
        _moved(mug=1.0, coaster=None),
        _moved(mug=2.0, coaster=1.9),
        _moved(mug=2.0, coaster=2.0),
        _moved(mug=None, coaster=None),
        {},
    ]
    outcomes = [Outcome.SUCCESS, *[Outcome.TIMEOUT] * 3, Outcome.ERROR]
    task = "PutMugInCenterOfTable"
    _evaluate(tmp_path / "mug", outcomes, num_episodes=5, task=task, details=details)
    # As simulators recorded it that said nothing of what was moved.
    _evaluate(tmp_path / "old", outcomes, num_episodes=5, task=task)
    new, old = example("results_ledger").read_evaluations(tmp_path)
    assert (new.choices, old.choices) == ("MOONE", "")


def test_the_objects_that_could_be_meant_are_those_of_tasks_in_the_same_scene(example: Any):
    choices = example("results_choices")
    others = {name: set(choices.other_objects(task)) for name, task in TASKS.items()}
    assert {name: names for name, names in others.items() if names} == {
        "PushCoasterToCenterOfTable": {"mug"},
        "PushCoasterToMug": {"mug"},
        "PutMugInCenterOfTable": {"coaster"},
        "PutKiwiInCenterOfTable": {"banana"},
        "PutBananaOnSaucer": {"kiwi"},
        "BimanualPlaceAppleFromBowlIntoBin": {"pear"},
    }


@pytest.mark.parametrize("choices", ["M", "MOX"])
def test_choices_that_are_not_one_an_episode_are_refused(example: Any, choices: str):
    with pytest.raises(FormatError, match="choices: one of the letters"):
        _evaluated(example, outcomes="SFT", choices=choices)


def _evaluated(example: Any, **changes: object) -> Any:
    fields = {
        "task": "PutMugInCenterOfTable",
        "first_episode": 500,
        "outcomes": 10 * "S",
        "shift": "",
        "latency_ms": 0.0,
        "serving": {},
        "success_s": 4.0,
        "policy_digest": "0" * 64,
    }
    return example("results_ledger").Evaluated(**(fields | changes))


TRAINING = {
    "recipe": "small_vla",
    "task": ", ".join(TASKS),
    "num_demonstrations": 3400,
    "num_frames": 249_727,
    "data_sha256": "0" * 64,
    "num_steps": 10_000,
    "batch_size": 128,
    "num_threads": 1,
    "seed": 0,
    "training_s": 4.5 * 3600,
    "curve": {"1000": 43.5, "10000": 12.0},
    "seconds": {
        "language": {"wall_s": 900.0},
        "vision_language": {"wall_s": 685.4},
        "vision_language_action": {"wall_s": 3960.0},
        "evaluation of pretrained": {"wall_s": 7200.0, "cpu_s": 3600.0},
    },
    "git_sha": "",
    "versions": {},
}


def _page(example: Any, folder: Path, results: Mapping[str, list[Any]]) -> str:
    """The page of these evaluations by group and name, `all_tasks/small`, and of nothing else."""
    ledgers = example("results_ledger")
    for name, evaluations in results.items():
        path = folder / name
        is_together = path.parent.name in (ledgers.TOGETHER, ledgers.OTHERS)
        training = ledgers.Training(**TRAINING) if is_together else None
        result = ledgers.Result(name=path.name, training=training, evaluations=evaluations)
        ledgers.write_result(path.parent, result)
    page = example("results_page")
    shutil.copy(_DOCS / "results" / page.TEMPLATE, folder)
    return page.draw(folder)["results.md"]


def test_a_policy_for_all_tasks_beside_each_tasks_own(example: Any, tmp_path: Path):
    def link(task: str) -> str:
        return f"[{task}](tasks.md#{task.lower()})"

    box, mug, kiwi = "PickAndPlaceBox", "PutMugInCenterOfTable", "PutKiwiInCenterOfTable"
    page = _page(
        example,
        tmp_path,
        {
            "all_tasks/small": [
                _evaluated(example, task=box),
                _evaluated(example, task=mug, outcomes="SSSS" + 16 * "F", choices=20 * "M"),
                _evaluated(
                    example, task=mug, outcomes="SFFF", shift="phrasing=high", choices="MMON"
                ),
                # Of the first ten episodes, where it fails, the task's own policy knows nothing.
                _evaluated(example, task=kiwi, outcomes=10 * "F" + 10 * "S", choices=10 * "ON"),
            ],
            f"one_task/{mug}": [_evaluated(example, task=mug, outcomes=20 * "S")],
            f"one_task/{kiwi}": [
                _evaluated(example, task=kiwi, outcomes=9 * "S" + "T", first_episode=510)
            ],
        },
    )
    own = "its own policy"
    assert (
        "Hours: language 0.2, vision and language 0.2, action before 1.1, action 4.5, evaluation "
        "of pretrained 2.0."
    ) in page
    assert (
        f"| task | successes | 95 % | {own} | points |  | median success | in unseen words |"
        in page
    )
    assert f"| {link(box)} | 10 of 10, 100 % | 69 to 100 % |  |  |  | 4.0 s |  |" in page
    assert (
        f"| {link(mug)} | 4 of 20, 20 % | 6 to 44 % | 20 of 20, 100 % | -80 | worse | 4.0 s "
        "| 1 of 4, 25 % |"
    ) in page
    assert (
        f"| {link(kiwi)} | 10 of 20, 50 % | 27 to 73 % | 9 of 10, 90 % | +10 |  | 4.0 s |  |"
        in page
    )
    assert f"| {link('PutMugOnSaucer')} | not done yet |  |  |  |  |  |  |" in page
    # Means over tasks, each of the same weight: of 100, 20 and 50 %; of -80 and +10 points.
    assert "**3 of 16 tasks: 56.7 % (95 %: " in page
    assert "; -35.0 points (95 %: " in page
    assert "at most 5 below on 1 of them.**" in page
    # One of four, and all four of the same in seen words.
    assert "In unseen words 25.0 % (95 %: " in page
    assert "; -75.0 points (95 %: " in page
    assert (
        f"| {mug} | mug | coaster | 20 of 20, 100 % | 83 to 100 % | 0 | 0 | 2 of 4, 50 % |" in page
    )
    assert f"| {kiwi} | kiwi | banana | 0 of 20, 0 % | 0 to 17 % | 10 | 10 |  |" in page


def test_policies_of_one_task_that_began_with_one_of_all(example: Any, tmp_path: Path):
    ledgers = example("results_ledger")
    kiwi, box = "PutKiwiInCenterOfTable", "PickAndPlaceBox"

    def met(outcomes: str) -> list[Any]:
        return [_evaluated(example, task=kiwi, outcomes=outcomes, first_episode=500)]

    # As much as the policy for all tasks had gone through: its own training and the one before.
    before = {"seconds": {"vision_language_action": {"wall_s": 3960.0 + 4.5 * 3600}}}
    for task, evaluations in ((kiwi, met("T" + 19 * "S")), (box, [])):
        training = ledgers.Training(**(TRAINING | before | {"task": task, "training_s": 558.0}))
        result = ledgers.Result(name=f"{task}-begun", training=training, evaluations=evaluations)
        ledgers.write_result(tmp_path / "begun", result)
    mug = [_evaluated(example, task="PutMugOnSaucer", outcomes="SSST", first_episode=500)]
    others = {
        f"one_task/{kiwi}": met(20 * "T"),
        "one_task/PutMugOnSaucer": mug,
        "all_tasks/small": met("SSTT"),
    }
    section = _page(example, tmp_path, others)
    section = section[section.index("### One task, begun with it") :].partition("\n## ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith("| Put")]
    assert row == (
        f"| {kiwi} | 19 of 20, 95 % | 75 to 100 % | 0 of 20, 0 % | +95 | better | 2 of 4, 50 % "
        "| 3400 | 9.3 min |"
    )
    # Trained, and not evaluated yet.
    assert f"| {box}" not in section
    # With the mug's, which has not begun so, and without the kiwi's from nothing.
    counted = "2 of 16 tasks: 1 reach 90 % (goal: 10), 2 reach 75 % (goal: all).** 1 have begun so."
    assert counted in section
    # 3 of 4 where that which it began with has 2.
    assert "They are +25.0 points (95 %: " in section
    # Of the mug it has not met an episode.
    assert "The policy for all tasks, as it is now, is -25.0 points (95 %: " in section
    assert "so counted, on the 1 tasks that have one" in section


def test_trainings_one_after_another_on_the_episodes_that_all_have_met(
    example: Any, tmp_path: Path
):
    ledgers = example("results_ledger")
    box, mug = "PickAndPlaceBox", "PutMugOnSaucer"
    shared = {"num_steps": 5200, "training_s": 3960.0}
    for name, of_training, outcomes in (
        # By their names the second would come first.
        ("b", shared | {"seconds": {}}, ("FFFF", "FFSS")),
        ("a", {}, ("FSSS" + 6 * "F", 10 * "S")),
        # Of the one in between nothing but validation episodes.
        ("c", {"num_steps": 7600, "training_s": 7200.0}, ()),
    ):
        training = ledgers.Training(**(TRAINING | of_training))
        evaluations = [
            _evaluated(example, task=task, outcomes=each)
            for task, each in zip((box, mug), outcomes, strict=bool(outcomes))
        ]
        if not outcomes:
            evaluations.append(_evaluated(example, outcomes="SSF", first_episode=1000))
        result = ledgers.Result(name=name, training=training, evaluations=evaluations)
        ledgers.write_result(tmp_path / ledgers.OTHERS, result)
    page = _page(example, tmp_path, {})
    rows = [line for line in page.splitlines() if line.startswith(("| 1 | ", "| 2 | ", "| 3 | "))]
    assert rows[0].startswith("| 1 | 3,400 | 5,200 | 1.1 | 1.1 | 12.0 mm |  | 25.0 % (95 %: ")
    assert rows[0].endswith(" |  |")
    assert rows[1] == "| 2 | 3,400 | 7,600 | 2.0 | 3.1 | 12.0 mm | 2 of 3 |  |  |"
    assert rows[2].startswith("| 3 | 3,400 | 10,000 | 4.5 | 5.6 | 12.0 mm |  | 87.5 % (95 %: ")
    # From the last one that has met them.
    assert " | +62.5 points (95 %: " in rows[2]
    assert "episodes 500 to 503, on average" in page


def test_of_two_that_began_so_that_counts_which_saw_the_way_back(example: Any, tmp_path: Path):
    ledgers = example("results_ledger")
    kiwi = "PutKiwiInCenterOfTable"
    for name, outcomes in (("begun", 10 * "S"), ("begun_way_back", 8 * "S" + "TT")):
        evaluated = _evaluated(example, task=kiwi, outcomes=outcomes, first_episode=500)
        training = ledgers.Training(**(TRAINING | {"task": kiwi}))
        result = ledgers.Result(name=f"{kiwi}-{name}", training=training, evaluations=[evaluated])
        ledgers.write_result(tmp_path / "begun", result)
    page = _page(example, tmp_path, {})
    assert "1 of 16 tasks: 0 reach 90 % (goal: 10), 1 reach 75 % (goal: all).**" in page
    cells = [line.split(" | ") for line in page.splitlines() if line.startswith(f"| {kiwi} ")]
    assert [(row[1], row[-2]) for row in cells] == [
        ("10 of 10, 100 %", "3400"),
        ("8 of 10, 80 %", "3400, some of the way back"),
    ]


def test_what_is_not_measured_is_said_so(example: Any, tmp_path: Path):
    page = _page(example, tmp_path, {})
    section = page[page.index("## One policy for all tasks") : page.index("## Baselines")]
    assert section.count("Not measured yet.") == 6


def _training(folder: Path, *, init: Path, **changes: object) -> str:
    """What a run that was stopped once and went on leaves, a checkpoint at its end; its digest.

    changes: of what the checkpoint tells of its training.
    """
    told = {
        "tasks": ["PickAndPlaceBox"],
        "num_episodes": 400,
        "num_frames": 9000,
        "data_sha256": "1" * 64,
        "total_steps": 3000,
        "seed": 0,
        "training_s": 5400.0,
        "git_sha": None,
        "versions": {},
    }
    config = replace(find_recipe("small_vla"), data="box", more_data=("mug=1",), init=str(init))
    final = folder / "checkpoints" / "final"
    final.mkdir(parents=True)
    (folder / "config.json").write_text(config_to_json(config))
    (final / "provenance.json").write_text(json.dumps(told | changes))
    (final / "MANIFEST.json").write_text("{}")
    for steps in ((1000, 2000), (2000, 3000)):
        with SummaryWriter(str(folder / "tensorboard")) as writer:
            for step in steps:
                writer.add_scalar("validation/position_mm", 42.0 - step / 100, step)
    return hashlib.sha256(b"{}").hexdigest()


def _stage(folder: Path, kind: str, init: str, training_s: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"kind": kind, "init": init}))
    (folder / "provenance.json").write_text(json.dumps({"training_s": training_s}))
    return folder


def test_collecting_a_policy_for_several_tasks(example: Any, tmp_path: Path):
    """With the stages before it, and without the evaluations of another policy beside it."""
    run = tmp_path / "small"
    language = _stage(tmp_path / "lm", "language", "", 60.0)
    sight = _stage(tmp_path / "vlm", "vision_language", str(language), 30.5)
    first = _stage(tmp_path / "first", "vision_language_action", str(sight), 700.0)
    again = _stage(tmp_path / "again", "vision_language_action", str(first), 1100.0)
    digest = _training(run / "vla", init=again, tasks=["PickAndPlaceBox", "PutMugOnSaucer"])
    (run / "seconds.json").write_text('{"evaluation of pretrained": {"wall_s": 9, "cpu_s": 8}}')
    for name, its_digest in (("from_scratch", "0" * 64), ("pretrained", digest)):
        _evaluate(run / "rollouts" / name, 3 * [Outcome.SUCCESS], num_episodes=3, digest=its_digest)
    result = example("results_collecting").collect(run)
    (evaluated,) = result.evaluations
    assert evaluated.policy_digest == digest
    training = result.training
    assert (training.task, training.training_s) == ("PickAndPlaceBox, PutMugOnSaucer", 5400.0)
    assert training.points == [(1000, 32.0), (2000, 22.0), (3000, 12.0)]
    assert training.seconds == {
        "language": {"wall_s": 60.0},
        "vision_language": {"wall_s": 30.5},
        "vision_language_action": {"wall_s": 1800.0},
        "evaluation of pretrained": {"wall_s": 9, "cpu_s": 8},
    }


def test_collecting_again_a_policy_that_ships_now(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where its beginning lay, it lies itself."""
    ledgers, collecting = example("results_ledger"), example("results_collecting")
    monkeypatch.setattr(collecting, "LEDGERS", tmp_path)
    shipped = _stage(tmp_path / "shipped", "vision_language_action", "", 700.0)
    run = tmp_path / "small"
    _training(run / "vla", init=shipped)
    first = collecting.collect(run)
    assert first.training.seconds == {"vision_language_action": {"wall_s": 700.0}}
    ledgers.write_result(tmp_path / "all_tasks", first)
    shutil.copy(run / "vla" / "checkpoints" / "final" / "provenance.json", shipped)
    assert collecting.collect(run) == first


def test_collecting_a_policy_that_began_with_one_that_ships(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of the trainings before that one there is what was kept of it."""
    ledgers, collecting = example("results_ledger"), example("results_collecting")
    monkeypatch.setattr(collecting, "LEDGERS", tmp_path)
    kept = ledgers.Result(name="small", training=ledgers.Training(**TRAINING))
    ledgers.write_result(tmp_path / "all_tasks", kept)
    shipped = _stage(tmp_path / "shipped", "vision_language_action", "gone", 4.5 * 3600)
    for data_sha256, action_s in ((TRAINING["data_sha256"], 20160.0), ("1" * 64, 16200.0)):
        told = {"training_s": 4.5 * 3600, "data_sha256": data_sha256}
        (shipped / "provenance.json").write_text(json.dumps(told))
        run = tmp_path / data_sha256 / "small"
        _training(run / "vla", init=shipped)
        seconds = collecting.collect(run).training.seconds
        assert seconds["vision_language_action"] == {"wall_s": action_s}
        assert ("language" in seconds) == (data_sha256 == TRAINING["data_sha256"])


def test_collecting_studies_of_pretraining(example: Any, tmp_path: Path):
    """One that is at its end, and one that is not."""
    seed = tmp_path / "seed-1"
    for name in ("nominal", "unseen-words"):
        shutil.copytree(_DOCS / "examples" / "early_late", seed / "studies" / name)
    (ledger,) = (seed / "studies" / "unseen-words" / "final").glob("*.jsonl")
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:3]))
    for policy, training_s in (("step_000150", 60.0), ("final", 480.0)):
        _training(seed / policy, init=tmp_path / "vlm", seed=1, training_s=training_s)
    (result,) = example("results_collecting").collect_pretraining(tmp_path)
    assert result.name == "seed-1-nominal"
    (compared,) = result.comparisons
    assert compared.policies == ["final", "step_000150"]
    assert (compared.successes, compared.episodes, compared.winner) == ([13, 3], 13, "final")
    assert compared.points == pytest.approx(-100 * 10 / 13, abs=0.01)
    assert compared.lower < compared.points < compared.upper < 0

    kept = tmp_path / "docs" / "results" / "pretraining"
    example("results_ledger").write_result(kept, result)
    pretraining = example("results_pretraining")
    assert pretraining.read_pretraining(kept) == [result]
    table = list(pretraining.pretraining_tables([result]))
    assert "| final | 1 | 3,000 of 128 windows | 8.0 | 12.0 mm |" in table
    interval = f"{compared.lower:+.0f} to {compared.upper:+.0f}"
    assert table[-1] == f"| nominal | 1 | 13, 3 of 13: -77 ({interval}), **final** |"
    assert table[2] == "| final, step 000150 | 1 for final |  |"

    undecided = replace(compared, winner=None)
    table = list(
        pretraining.pretraining_tables([replace(result, comparisons=[undecided]), result, result])
    )
    assert table[2] == "| final, step 000150 | 2 for final, 1 not decided |  |"

    both = replace(undecided, tasks=["PickAndPlaceBox", "PutMugOnSaucer"])
    other = replace(both, policies=["final", "smollm2"], winner="smollm2")
    table = list(
        pretraining.pretraining_tables([replace(result, comparisons=[compared, both, other])])
    )
    assert table[2:4] == [
        "| final, step 000150 | 1 not decided | 1 for final |",
        "| final, SmolLM2 | 1 for SmolLM2 |  |",
    ]
    cell = f"13, 3 of 13: -77 ({interval})"
    assert f"| nominal | 1 | {cell} | {cell}, **SmolLM2** |" in table
    assert f"| nominal | PickAndPlaceBox | 1 | {cell}, **final** |  |" in table
