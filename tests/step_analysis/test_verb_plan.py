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
    alone, together, per_task, simulators = capsys.readouterr().out.splitlines()
    assert alone.startswith("On each task by itself: ")
    assert together.startswith("Over 4 tasks together: ")
    assert per_task.endswith("episodes of each task and policy.")
    assert simulators.startswith("On how many simulators: sim-client plan --episodes ")
    main(["plan", *RATES, "--method", "barnard"])
    assert capsys.readouterr().out.startswith("On one task: ")


def test_a_pilot_gives_the_discordance_and_the_cost(tmp_path, evaluation_in, capsys):
    evaluation_in(tmp_path, "a", "11110000001")
    evaluation_in(tmp_path, "b", "1111110000e")
    arguments = ["plan", *RATES, "--method", "paired", "--pilot", str(tmp_path)]
    main([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    # The two differ on 2 of 10 seeds; rates a quarter apart can't differ on fewer than that.
    assert told["discordance"] == pytest.approx(0.25)
    assert told["seconds_per_episode"] == pytest.approx(4.25)
    assert told["simulator_hours"] == pytest.approx(told["rollouts"] * 4.25 / 3600.0)
    main(arguments)
    assert "a and b differ on 2 of 10 seeds" in capsys.readouterr().out


def test_power_is_drawn_against_the_budget(tmp_path, capsys):
    for suffix, beginning in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        path = tmp_path / f"power.{suffix}"
        main(["plan", *RATES, "--method", "barnard", "--plot", str(path)])
        assert path.read_bytes().startswith(beginning)
    assert "Plot: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--from", "1.5", "--to", "0.5"], "--from must lie within [0, 1], got 1.5"),
        (["--from", "0.5", "--to", "nan"], "--to must lie within [0, 1], got nan"),
        (["--from", "0.5", "--to", "0.5"], "no budget tells equal rates apart"),
        ([*RATES, "--power", "1"], "power must lie strictly between 0 and 1, got 1"),
        ([*RATES, "--alpha", "0"], "alpha must lie strictly between 0 and 1, got 0"),
        ([*RATES, "--plot", "a.gif"], "--plot a.gif: .png, .svg, .pdf expected"),
        ([*RATES, "--seconds-per-episode", "0"], "--seconds-per-episode must lie within"),
        ([*RATES, "--tasks", "0"], "--tasks must be at least 1, got 0"),
        ([*RATES, "--discordance", "0.3"], "--discordance is for the methods mcnemar and paired"),
        ([*RATES, "--method", "paired", "--discordance", "0.1"], "discordance must lie within"),
    ],
)
def test_bad_input_is_one_clear_line(capsys, arguments, complaint):
    assert complaint in refusal(capsys, arguments)


def test_a_pilot_without_policies_is_refused(tmp_path, capsys):
    complaint = refusal(capsys, [*RATES, "--pilot", str(tmp_path)])
    assert "a pilot is of two policies, got none" in complaint


def refusal(capsys, arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["plan", *arguments])
    error = capsys.readouterr().err
    assert (caught.value.code, error.count("\n")) == (2, 1)
    return error
