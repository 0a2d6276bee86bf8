import json

import pytest

from step_analysis.command_line import main


@pytest.fixture
def files(tmp_path):
    first, second = tmp_path / "old.txt", tmp_path / "new.txt"
    first.write_text("0 " * 20, encoding="utf-8")
    second.write_text(json.dumps([1] * 20), encoding="utf-8")
    return first, second


@pytest.mark.parametrize(
    "method", ["auto", "step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"]
)
def test_the_better_file_is_found(files, capsys, method):
    first, second = map(str, files)
    main(["test", "--method", method, first, second, "--json"])
    forth = json.loads(capsys.readouterr().out)
    assert sorted(forth) == ["decision", "time"]
    assert forth["decision"] == 1
    assert (forth["time"] == 20) == (method in ("mcnemar", "barnard", "fisher"))
    main(["test", "--method", method, second, first, "--json"])
    assert json.loads(capsys.readouterr().out) == {"decision": -1, "time": forth["time"]}


def test_the_oracle_s_sequences_are_decided_as_they_were(tmp_path, capsys, reference):
    oracle = reference("sequential_decisions")
    first, second = tmp_path / "x", tmp_path / "y"
    for x, y, _, _, decision, time, _ in oracle["records"][:8]:
        first.write_text(x, encoding="ascii")
        second.write_text("\n".join(y), encoding="ascii")
        options = ["--n-max", str(oracle["n_max"]), "--alpha", str(oracle["alpha_per_side"])]
        main(
            [
                "test",
                "--method",
                "savi",
                str(first),
                str(second),
                *options,
                "--sides",
                "one",
                "--json",
            ]
        )
        assert json.loads(capsys.readouterr().out) == {"decision": decision, "time": time}


def test_it_is_said_in_words(files, capsys):
    first, second = map(str, files)
    main(["test", first, second, "--n-max", "200"])
    assert f"STEP: {second} is better after" in capsys.readouterr().out
    main(["test", first, first])
    assert "STEP: undecided after 20 of 20 episodes of each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "second", "options", "complaint"),
    [
        ("0 1", "0 1 1", [], "outcomes of one number expected, got 2 in"),
        ("0 1", "0 2", [], "outcome 1 must be 0 or 1, got '2'"),
        ("", "0 1", [], "is empty"),
        ("0 1", "0 1", ["--n-max", "1"], "2 episodes are more than the 1 fixed beforehand"),
        ("0 1", "0 1", ["--n-max", "0"], "n_max must be a whole number of at least 1"),
        ("0 1", "0 1", ["--alpha", "0"], "alpha must lie strictly between 0 and 1, got 0"),
        ("0 1", None, [], "No such file"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, capsys, first, second, options, complaint):
    paths = [tmp_path / "first", tmp_path / "second"]
    for path, text in zip(paths, (first, second), strict=True):
        if text is not None:
            path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        main(["test", *map(str, paths), *options])
    error = capsys.readouterr().err
    assert (caught.value.code, error.count("\n")) == (2, 1)
    assert complaint in error
