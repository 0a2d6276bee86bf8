import json
from pathlib import Path

import pytest

from step_analysis.command_line import main
from step_analysis.sequential.step_tables import CACHE_FOLDER_VARIABLE, read_table


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("sides", "alpha_per_side"), [("one", 0.04), ("two", 0.02)])
def test_it_keeps_a_table_and_says_where(cache, capsys, sides, alpha_per_side):
    main(["synthesize", "--n-max", "40", "--alpha", "0.04", "--sides", sides, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert sorted(told) == ["path", "seconds", "type1_sup"]
    table = read_table(Path(told["path"]))
    assert Path(told["path"]).parent == cache
    assert table.design.alpha_per_side == alpha_per_side
    assert 0.9 * 0.04 < told["type1_sup"] <= 0.04
    assert told["seconds"] > 0.0


def test_two_sides_are_the_default_and_share_alpha(cache, capsys):
    main(["synthesize", "--n-max", "40", "--alpha", "0.04"])
    path, error, seconds = capsys.readouterr().out.splitlines()
    table = read_table(Path(path.removeprefix("Table: ")))
    assert table.design.alpha_per_side == 0.02
    assert f"{table.certificate.both_directions_sup:.6g}, at most 0.04 asked" in error
    assert seconds.startswith("Made and proved in")


def test_it_replaces_an_altered_table(cache, capsys):
    arguments = ["synthesize", "--n-max", "12", "--alpha", "0.04", "--json"]
    main(arguments)
    path = Path(json.loads(capsys.readouterr().out)["path"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    main(arguments)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("budget", ["zeta:0.5", "pnorm:1", "file"])
def test_any_budget_can_be_spent(cache, capsys, tmp_path, budget):
    if budget == "file":
        budget = str(tmp_path / "increments.json")
        Path(budget).write_text(json.dumps([1.0] * 12), encoding="utf-8")
    for form in ("deterministic", "randomised"):
        options = ["--alpha", "0.08", "--budget", budget, "--form", form, "--json"]
        main(["synthesize", "--n-max", "12", *options])
        assert 0.0 < json.loads(capsys.readouterr().out)["type1_sup"] <= 0.08
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--n-max", "0"], "n_max must be a whole number of at least 1, got 0"),
        (["--n-max", "40000"], "n_max must be at most 32000"),
        (["--n-max", "12", "--alpha", "0"], "alpha must lie strictly between 0 and 1, got 0"),
        (["--n-max", "12", "--alpha", "nan"], "alpha must lie strictly between 0 and 1, got nan"),
        (["--n-max", "12", "--alpha", "0.5", "--sides", "one"], "must be below 0.5"),
        (["--n-max", "12", "--budget", "cubic"], "risk budget 'cubic' is neither linear"),
        ([], "--n-max"),
    ],
)
def test_a_design_that_makes_no_sense_is_bad_usage(cache, capsys, options, complaint):
    code, error = _fails(capsys, "synthesize", *options)
    assert (code, error.count("\n")) == (2, 1)
    assert complaint in error
    assert not cache.exists()


def test_a_cache_that_can_not_be_written_is_named_before_the_work(tmp_path, capsys, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    monkeypatch.setenv(CACHE_FOLDER_VARIABLE, str(in_the_way / "cache"))
    # Minutes of work, if it were begun.
    code, error = _fails(capsys, "synthesize", "--n-max", "4000")
    assert code == 2
    assert f"the cache folder {in_the_way / 'cache'} can't be written" in error
    assert CACHE_FOLDER_VARIABLE in error
