import json

import pytest

from step_analysis.command_line import main

RATES = ["--from", "0.5", "--to", "0.75"]


def test_it_tells_the_budget_and_the_expected_rollouts(capsys):
    main(["plan", *RATES, "--tasks", "16", "--power", "0.8", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["method"] == "step"
    assert told["n_max"] == 16 * told["episodes_per_task"]
    assert told["power"] >= 0.8
    assert told["rollouts"] == 2 * told["n_max"]
    assert told["expected_rollouts"] == pytest.approx(2 * told["expected_n"])
    assert told["expected_rollouts"] < 0.75 * told["rollouts"]
    each = told["each_task"]
    assert told["n_max"] - 16 < each["n_max"] <= told["n_max"]
    assert each["rollouts"] == 2 * 16 * each["n_max"]


def test_it_is_said_in_words(capsys):
    main(["plan", *RATES, "--tasks", "4", "--method", "barnard"])
    alone, together, per_task = capsys.readouterr().out.splitlines()
    assert alone.startswith("On each task by itself: ")
    assert together.startswith("Over 4 tasks together: ")
    assert per_task.endswith("episodes of each task and policy.")
    main(["plan", *RATES, "--method", "barnard"])
    assert capsys.readouterr().out.startswith("On one task: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--from", "1.5", "--to", "0.5"], "--from must lie within [0, 1], got 1.5"),
        (["--from", "0.5", "--to", "nan"], "--to must lie within [0, 1], got nan"),
        (["--from", "0.5", "--to", "0.5"], "no budget tells equal rates apart"),
        ([*RATES, "--power", "1"], "power must lie strictly between 0 and 1, got 1"),
        ([*RATES, "--alpha", "0"], "alpha must lie strictly between 0 and 1, got 0"),
        ([*RATES, "--tasks", "0"], "--tasks must be at least 1, got 0"),
        ([*RATES, "--discordance", "0.3"], "--discordance is for the methods mcnemar and paired"),
        ([*RATES, "--method", "paired", "--discordance", "0.1"], "discordance must lie within"),
    ],
)
def test_bad_input_is_one_clear_line(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as caught:
        main(["plan", *arguments])
    error = capsys.readouterr().err
    assert (caught.value.code, error.count("\n")) == (2, 1)
    assert complaint in error
