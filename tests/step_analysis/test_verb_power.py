import json

import pytest

from step_analysis.command_line import main


def _power(capsys, *arguments):
    main(["power", *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def _fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return caught.value.code, error


RATES = ["--p0", "0.3", "--p1", "0.5"]


def test_the_reference_s_convention_gives_its_numbers(capsys, reference):
    told = _power(capsys, "--method", "barnard", "--n-max", "50", *RATES, "--sides", "one")
    assert sorted(told) == ["expected_n", "power", "type1_sup", "wrong"]
    assert told["power"] == pytest.approx(0.637184, abs=1e-6)
    assert told["wrong"] == pytest.approx(8.28290e-05, abs=1e-9)
    assert (told["expected_n"], round(told["type1_sup"], 4)) == (50.0, 0.0486)
    for p0, p1, power, wrong, time in reference("power")["budgets"]["50"]["step"][:4]:
        options = ["--n-max", "50", "--p0", str(p0), "--p1", str(p1), "--sides", "one"]
        told = _power(capsys, "--method", "step", *options)
        assert told["power"] >= power - 0.005
        assert told["wrong"] <= wrong + 0.001
        assert told["expected_n"] <= 1.02 * time
        assert told["type1_sup"] <= 0.05


@pytest.mark.parametrize("method", ["step", "lai", "paired", "mcnemar", "barnard", "fisher"])
def test_both_sides_together_are_the_default_and_keep_alpha(capsys, method):
    two = _power(capsys, "--method", method, "--n-max", "40", *RATES, "--alpha", "0.1")
    half = ["--alpha", "0.05", "--sides", "one"]
    one = _power(capsys, "--method", method, "--n-max", "40", *RATES, *half)
    assert two["type1_sup"] == pytest.approx(2 * one["type1_sup"])
    assert 0.05 < two["type1_sup"] <= 0.1
    assert [two[k] for k in ("power", "wrong", "expected_n")] == pytest.approx(
        [one[k] for k in ("power", "wrong", "expected_n")]
    )


def test_the_better_policy_may_be_the_first(capsys):
    forth = _power(capsys, "--method", "lai", "--n-max", "40", "--p0", "0.3", "--p1", "0.6")
    back = _power(capsys, "--method", "lai", "--n-max", "40", "--p0", "0.6", "--p1", "0.3")
    assert back == pytest.approx(forth)


def test_equal_rates_have_no_power_and_every_verdict_is_wrong(capsys):
    told = _power(capsys, "--method", "lai", "--n-max", "40", "--p0", "0.5", "--p1", "0.5")
    assert told["power"] is None
    assert told["wrong"] == pytest.approx(told["type1_sup"])
    main(["power", "--method", "lai", "--n-max", "40", "--p0", "0.5", "--p1", "0.5"])
    assert "Right verdict" not in capsys.readouterr().out


def test_a_simulated_number_comes_with_its_standard_error(capsys):
    exact = _power(capsys, "--method", "savi", "--n-max", "8", *RATES, "--alpha", "0.4")
    assert "standard_error" not in exact
    simulated = _power(capsys, "--method", "savi", "--n-max", "12", *RATES, "--alpha", "0.4")
    assert 0.0 < simulated["standard_error"] < 0.003
    assert simulated["type1_sup"] <= 0.4


def test_discordance_is_for_pairs(capsys):
    near = _power(capsys, "--method", "paired", "--n-max", "80", *RATES, "--discordance", "0.2")
    apart = _power(capsys, "--method", "paired", "--n-max", "80", *RATES)
    assert near["power"] > apart["power"] + 0.1
    code, error = _fails(
        capsys, "power", "--method", "lai", "--n-max", "80", *RATES, "--discordance", "0.2"
    )
    assert code == 2
    assert "--discordance is for the methods mcnemar and paired" in error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--n-max", "0", *RATES], "n_max must be a whole number of at least 1, got 0"),
        (["--n-max", "1000000", *RATES], "n_max must be at most 20000 here, got 1000000"),
        (["--n-max", "9", *RATES, "--alpha", "0"], "alpha must lie strictly between 0 and 1"),
        (["--n-max", "9", *RATES, "--alpha", "0.7", "--sides", "one"], "below 0.5, got 0.7"),
        (["--n-max", "9", "--p0", "1.1", "--p1", "0.5"], "p0 must lie within [0, 1], got 1.1"),
        (["--n-max", "9", "--p0", "0.1", "--p1", "nan"], "p1 must lie within [0, 1], got nan"),
        (["--n-max", "9.5", *RATES], "--n-max"),
        (["--n-max", "9", *RATES, "--method", "welch"], "--method"),
    ],
)
def test_bad_input_is_one_clear_line(capsys, arguments, complaint):
    code, error = _fails(capsys, "power", *arguments)
    assert code == 2
    assert complaint in error
