"""`trainer data text`: what text holds, and what would ruin a training on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.command_line import main
from trainer.data.text.tokenizer import TextTokenizer

WriteLines = Callable[[Path, list[dict[str, Any]]], Path]


@pytest.fixture
def scenes(tmp_path: Path, write_lines: WriteLines, png: Callable[[int], bytes]) -> Path:
    """Three captioned pictures, a dialogue without one, a text and some tokens."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(80 * number))
    records: list[dict[str, Any]] = [
        {"image": f"{number}.png", "caption": f"A red of {number}."} for number in range(3)
    ]
    records += [
        {"question": "What stands there?", "answer": "A mug."},
        {"text": "A mug stands on the table."},
        {"tokens": [5, 6, 7]},
    ]
    write_lines(folder / "scenes.jsonl", records)
    return folder


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["data", "text", "inspect", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def examined(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["data", "text", "doctor", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_inspect_counts_what_there_is(
    scenes: Path, tokenizer: TextTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = inspected(capsys, str(scenes))
    assert facts["num_documents"] == 6
    assert facts["kinds"] == {
        "dialogue with pictures": 3,
        "dialogue": 1,
        "text": 1,
        "tokens": 1,
    }
    assert (facts["num_turns"], facts["num_answers"]) == (8, 4)
    assert facts["picture_sizes"] == {"4x4": 3}
    # "A red of 0." has 11 characters, the dialogue 18 and 6, the text 26.
    assert facts["characters"]["total"] == 3 * 11 + 24 + 26
    assert facts["characters"]["least"] == facts["characters"]["median"] == 11
    assert facts["characters"]["greatest"] == 26
    assert facts["tokens"]["total"] == 3
    counted = inspected(capsys, str(scenes), "--tokenizer", str(tokenizer.path))["tokens"]
    words = ["What stands there?", "A mug.", "A mug stands on the table."]
    words += [f"A red of {number}." for number in range(3)]
    assert counted["total"] == 3 + sum(len(tokenizer.encode(text)) for text in words)

    assert main(["data", "text", "inspect", str(scenes)]) == 0
    told = capsys.readouterr().out
    assert "documents   6: dialogue with pictures (3), dialogue (1)" in told
    assert "pictures    3: 4x4 (3)" in told


def test_doctor_finds_nothing_where_nothing_is(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = examined(capsys, str(scenes), "--fail-on", "warning")
    assert code == 0
    assert facts["data_sets"][0]["findings"] == []
    assert facts["data_sets"][0]["num_pictures"] == 3
    assert main(["data", "text", "doctor", str(scenes)]) == 0
    assert capsys.readouterr().out.endswith("Nothing found.\n")


def test_doctor_finds_what_was_planted(
    scenes: Path,
    write_lines: WriteLines,
    png: Callable[[int], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (scenes / "broken.png").write_bytes(png(1)[:40])
    planted: list[dict[str, Any]] = [
        {"text": "A mug stands on the table."},
        {"text": "half of it is \ufffd gone"},
        {"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": ""}]},
        {"image": "broken.png", "caption": "Half a file."},
        {"image": "nowhere.png", "caption": "No file."},
    ]
    write_lines(scenes / "bad.jsonl", planted)
    code, facts = examined(capsys, str(scenes))
    assert code == 1
    found = {one["check"]: one for one in facts["data_sets"][0]["findings"]}
    assert list(found) == [
        "unreadable",
        "picture",
        "no-answer",
        "duplicate-documents",
        "garbled-text",
    ]
    assert "nowhere.png" in found["unreadable"]["measured"]
    for check, line in (("picture", 4), ("no-answer", 3), ("garbled-text", 2)):
        (place,) = found[check]["documents"]
        assert "bad.jsonl" in place
        assert place.endswith(f"{line}"), place
    # The copy is told as whichever of the two comes second.
    (place,) = found["duplicate-documents"]["documents"]
    assert "scenes.jsonl" in place
    assert {one["severity"] for one in found.values()} == {"error", "warning"}


def test_doctor_finds_a_question_that_needs_no_picture(
    tmp_path: Path,
    write_lines: WriteLines,
    png: Callable[[int], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(png(10 * number))
    records = [
        {"image": f"{number}.png", "question": question, "answer": answer}
        for number in range(20)
        for question, answer in (("Is it red?", "Yes."), ("Which is it?", f"Number {number}."))
    ]
    write_lines(tmp_path / "asked.jsonl", records)
    code, facts = examined(capsys, str(tmp_path), "--fail-on", "warning")
    assert code == 1
    (finding,) = facts["data_sets"][0]["findings"]
    assert finding["check"] == "same-answer"
    assert finding["subject"] == "'Is it red?'"
    assert finding["numbers"] == {"num_asked": 20}


def test_doctor_compares_training_and_validation(
    scenes: Path, tmp_path: Path, write_lines: WriteLines, capsys: pytest.CaptureFixture[str]
) -> None:
    held = write_lines(
        tmp_path / "held.jsonl",
        [{"text": "A mug stands on the table."}, {"text": "A bowl stands on the table."}],
    )
    code, facts = examined(capsys, "--train", str(scenes), "--validation", str(held))
    assert code == 1
    (finding,) = facts["between_train_and_validation"]
    assert finding["numbers"] == {"num_shared": 1}
    assert main(["data", "text", "doctor", "--train", str(scenes), "--validation", str(held)]) == 1
    told = capsys.readouterr().out
    assert "1 of 2 documents: " in told
    assert told.endswith("1 error.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspct", "x"], "unknown verb 'inspct' (did you mean 'inspect'?)"),
        (["inspect", "nowhere"], "nowhere: no such file or folder"),
        (["doctor"], "give a source, or --train and --validation"),
        (["doctor", "--train", "x"], "--train and --validation go together"),
    ],
)
def test_bad_usage_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "text", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
