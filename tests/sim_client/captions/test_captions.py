"""What is said of a scene is true."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from policy_interface.contract import ImageSize
from sim_client.captions.facts import SeenObject, colour_name, seen_objects
from sim_client.captions.sentences import caption, questions
from sim_client.command_line import run
from sim_client.station.station import Station
from sim_client.tasks.catalog import TASKS, get_task
from trainer.data.text.documents import Turn
from trainer.data.text.sources import open_source

_CAMERA = "scene_right_0"
_SIZE = ImageSize(height=96, width=96)


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions") / "scenes"
    assert run(captions("PickAndPlaceBox,PutBananaOnSaucer", folder)) == 0
    return folder


def captions(tasks: str, folder: Path, *more: str) -> list[str]:
    return ["captions", "--tasks", tasks, "--scenes", "4", "--output", str(folder), *more]


@pytest.mark.parametrize("name", ["PutBananaOnSaucer", "PushCoasterToMug"])
def test_places_are_those_of_the_objects(name: str) -> None:
    """Against the camera's geometry and the simulator's state, of which the facts know nothing."""
    task = get_task(name)
    station = Station(task, cameras={_CAMERA: _SIZE}, depth=True, labels=True)
    num_seen = 0
    for seed in range(4):
        station.reset(300_000_000 + seed)
        view = station.observe().cameras[_CAMERA]
        seen = seen_objects(view, station.label_names(), task.objects)
        num_seen += len(seen)
        X_CT = np.linalg.inv(view.X_TC.matrix())
        for each in seen:
            position_T = station.scene_state().poses[each.name.replace(" ", "_")][:3, 3]
            position_C = X_CT[:3, :3] @ position_T + X_CT[:3, 3]
            u, v, _ = view.intrinsics @ position_C / position_C[2]
            assert each.column == pytest.approx((u + 0.5) / _SIZE.width, abs=0.06)
            assert each.row == pytest.approx((v + 0.5) / _SIZE.height, abs=0.06)
            assert each.distance_m == pytest.approx(position_C[2], abs=0.08)
    assert num_seen >= 6


def test_each_thing_has_the_colour_that_people_call_it() -> None:
    called = {
        each.name: colour_name(each.colour) for task in TASKS.values() for each in task.objects
    }
    expected = {
        "mug": "yellow",
        "cup": "blue",
        "box": "red",
        "bin": "blue",
        "banana": "yellow",
        "kiwi": "brown",
        "saucer": "turquoise",
        "crock": "cream",
        "coaster": "black",
        "apple": "red",
        "pear": "green",
    }
    assert {name: called[name] for name in expected if name in called} == {
        name: colour for name, colour in expected.items() if name in called
    }
    assert len(expected.keys() & called.keys()) >= 9


def batched(turns: Sequence[Turn]) -> list[tuple[Turn, Turn]]:
    return list(zip(turns[::2], turns[1::2], strict=True))


def seen(name: str, column: float, distance_m: float, row: float = 0.5) -> SeenObject:
    return SeenObject(name=name, colour="red", row=row, column=column, distance_m=distance_m)


def test_each_comparison_has_the_right_answer_and_close_ones_are_not_asked() -> None:
    objects = (seen("mug", 0.2, 1.0), seen("box", 0.5, 1.01), seen("bin", 0.52, 1.5))
    places = {each.name: each for each in objects}
    asked = questions(objects, ["Do it."], np.random.default_rng(0))
    compared = 0
    for exchange in asked:
        if not exchange.question.startswith("Which"):
            continue
        compared += 1
        words = exchange.question.rstrip("?").split()
        first, second = (places[words[n]] for n in (-4, -1))
        measure = "column" if "left" in exchange.question else "distance_m"
        lesser = min(first, second, key=lambda each: getattr(each, measure))
        assert exchange.answer == f"The {lesser.name}."
    # Left: mug and box, mug and bin. Nearer: mug and bin, box and bin.
    assert compared == 4


@pytest.mark.parametrize(
    ("row", "column", "region"),
    [
        (0.1, 0.1, "upper left"),
        (0.5, 0.5, "centre"),
        (0.5, 0.9, "middle right"),
        (0.999, 0.4, "lower centre"),
    ],
)
def test_regions(row: float, column: float, region: str) -> None:
    assert seen("mug", column, 1.0, row).region == region


def test_pointing_is_in_hundredths_from_the_upper_left() -> None:
    objects = (seen("mug", 0.2, 1.0, row=0.999), seen("box", 1.0, 1.0, row=0.004))
    asked = questions(objects, ["Do it."], np.random.default_rng(0))
    pointed = {each.question: each.answer for each in asked if each.question.startswith("Point")}
    assert pointed == {
        "Point at the mug.": "Column 20, row 99.",
        "Point at the box.": "Column 99, row 0.",
    }


def test_a_caption_names_all_that_is_seen() -> None:
    rng = np.random.default_rng(0)
    described = caption((seen("mug", 0.1, 1.0), seen("bin", 0.9, 1.0)), rng)
    assert described is not None
    assert described.answer.count("red") == 2
    assert "middle left" in described.answer
    assert caption((), rng) is None


def test_the_trainer_reads_them_and_held_out_phrasings_stay_held_out(written: Path) -> None:
    source = open_source(written)
    assert len(source) > 4
    shown = [source.document(index) for index in range(len(source))]
    assert all(len(each.images) == 1 and each.turns[0].num_images == 1 for each in shown)
    exchanges = [pair for each in shown for pair in batched(each.turns)]
    assert all(question.role == "user" != answer.role for question, answer in exchanges)
    first = {each.turns[0].text.split()[0] for each in shown}
    assert len(first) > 2, "whatever is asked may come first"
    told = {answer.text for question, answer in exchanges if "robot do" in question.text}
    tasks = [get_task(name) for name in ("PickAndPlaceBox", "PutBananaOnSaucer")]
    assert told
    assert told <= set(itertools.chain(*(task.instructions for task in tasks)))


def test_the_same_options_give_the_same_files(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "scenes"
    assert run(captions("PickAndPlaceBox,PutBananaOnSaucer", again)) == 0
    first, second = files(written), files(again)
    del first["README.md"], second["README.md"]
    assert first == second
    other = tmp_path / "other"
    assert run(captions("PickAndPlaceBox,PutBananaOnSaucer", other, "--seed", "1")) == 0
    assert files(other)["captions.jsonl"] != second["captions.jsonl"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tasks", "PickAndPlaceBix"], "Did you mean 'PickAndPlaceBox'"),
        (["--scenes", "0"], "--scenes: expected 1 or more, got 0"),
        (["--cameras", "nowhere"], "--cameras: expected some of"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["captions", "--output", str(tmp_path / "scenes"), *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(written)
    assert run(captions("PickAndPlaceBox", written)) == 2
    assert "is there already; name another" in capsys.readouterr().err
    assert files(written) == before
    assert run(captions("PickAndPlaceBox", written / "captions.jsonl")) == 2
