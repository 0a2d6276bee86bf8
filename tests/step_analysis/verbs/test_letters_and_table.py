import csv
import io
import json

import pytest

from step_analysis.command_line import main


@pytest.fixture
def published(tmp_path, reference, write_results_json):
    """The excerpt of the published rollouts, in VLA Foundry's tree."""
    excerpt = reference("foundry_excerpt")
    for task, of_task in excerpt["tasks"].items():
        for model, outcomes in of_task["outcomes"].items():
            path = tmp_path / model / task / "rollouts" / "2026-04-18T00-00-00" / "results.json"
            write_results_json(path, task, outcomes, budget=excerpt["budget"])
    return tmp_path


def test_letters_and_intervals_as_published(published, reference, capsys):
    main(["letters", str(published), "--json", "--sides", "one", "--confidence", "0.9"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    excerpt = reference("foundry_excerpt")
    assert list(document) == [*sorted(excerpt["tasks"]), "__aggregate__"]
    for task, of_task in excerpt["tasks"].items():
        for model, found in document[task].items():
            assert set(found) == {"successes", "n", "interval", "letters"}
            assert (found["successes"], found["n"]) == (of_task["successes"][model], 200)
            assert found["letters"] == of_task["letters"][model]
            expected = of_task["clopper_pearson_90"][model]
            assert found["interval"] == pytest.approx(expected, abs=1e-10)
    aggregate = document["__aggregate__"]
    assert {model: found["n"] for model, found in aggregate.items()} == dict.fromkeys(
        aggregate, 600
    )
    assert printed.err == ""


def test_the_table_in_each_format_has_the_same_rows(published, capsys):
    arguments = ["table", str(published), "--method", "savi"]
    main([*arguments, "--format", "csv"])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["task", "policy", "successes", "n", "rate", "lower", "upper", "letters"]
    assert len(rows) == 1 + 3 * 4
    main([*arguments, "--format", "markdown"])
    markdown = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown]
    assert [row[:4] for row in cells[2:]] == [row[:4] for row in rows[1:]]
    assert cells[1][2].endswith("-:")
    assert len({len(line) for line in markdown}) == 1
    main(arguments)
    text = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in text] == [row[:4] for row in rows]
    main([*arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    for row in rows[1:]:
        assert document[row[0]][row[1]]["interval"] == [float(row[5]), float(row[6])]
    main(["letters", str(published), "--method", "savi"])
    assert capsys.readouterr().out.splitlines() == text


def test_names_do_not_break_a_markdown_table(tmp_path, capsys):
    path = tmp_path / "episodes.csv"
    path.write_text("policy,task,episode,success\na|b,t,0,1\n", encoding="utf-8")
    main(["table", str(path), "--format", "markdown"])
    assert "a\\|b" in capsys.readouterr().out


def test_doubts_are_counted_on_stderr_and_refused_by_strict(tmp_path, write_results_json, capsys):
    for model in ("a", "b"):
        path = tmp_path / model / "TaskA" / "rollouts" / "1" / "results.json"
        write_results_json(path, "task_a", "11e0", budget=4)
    for verb in ("letters", "table"):
        main([verb, str(tmp_path), "--json"])
        printed = capsys.readouterr()
        assert json.loads(printed.out)["TaskA"]["a"]["n"] == 3
        assert printed.err == "2 warnings: see step-analysis doctor\n"
        main([verb, str(tmp_path), "--json", "--count-errors-as-failures"])
        assert json.loads(capsys.readouterr().out)["TaskA"]["a"]["n"] == 4
        with pytest.raises(SystemExit) as caught:
            main([verb, str(tmp_path), "--strict"])
        printed = capsys.readouterr()
        assert (caught.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
        assert "--strict refuses these rollouts for 2 warnings; the first: a, TaskA: 1 epi" in (
            printed.err
        )


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--alpha", "0", "alpha"),
        ("--alpha", "nan", "alpha"),
        ("--confidence", "1", "confidence"),
        ("--confidence", "95", "confidence"),
    ],
)
def test_options_out_of_range_are_one_line(published, capsys, option, value, complaint):
    with pytest.raises(SystemExit) as caught:
        main(["letters", str(published), option, value])
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert complaint in printed.err


@pytest.mark.parametrize("verb", ["letters", "table", "doctor"])
def test_help_shows_an_example(capsys, verb):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert f"Example: step-analysis {verb} eval_results" in capsys.readouterr().out
