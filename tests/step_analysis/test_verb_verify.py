import dataclasses
import json
from pathlib import Path

import pytest

from step_analysis.command_line import main
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_tables import (
    CACHE_FOLDER_VARIABLE,
    StepTable,
    make_table,
    write_table,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.table"
    write_table(path, make_table(StepDesign(n_max=30, alpha_per_side=0.03)))
    return path


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code, capsys.readouterr().err


def test_a_file_is_certified_again(table_file, capsys):
    main(["verify", str(table_file), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(table_file)
    assert (told["n_max"], told["alpha_per_side"]) == (30, 0.03)
    assert 0.9 * 0.03 < told["type1_sup"] <= 0.03
    assert told["both_directions_sup"] == pytest.approx(2.0 * told["type1_sup"], rel=1e-3)
    assert told["off_diagonal_sup"] < told["type1_sup"]
    main(["verify", str(table_file)])
    assert "allowed 0.03" in capsys.readouterr().out


def test_a_shipped_table_is_found_by_its_design(cache, capsys):
    main(["verify", "--n-max", "100", "--alpha", "0.05", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["alpha_per_side"] == 0.025
    assert told["both_directions_sup"] <= 0.05
    assert not cache.exists()


def test_a_cached_table_is_found_by_its_design(cache, capsys):
    options = ["--n-max", "21", "--alpha", "0.04", "--sides", "one"]
    code, error = _fails(capsys, "verify", *options)
    assert code == 2
    assert "`step-analysis synthesize --n-max 21 --alpha 0.04 --sides one`" in error
    main(["synthesize", *options])
    main(["verify", *options])
    assert str(cache) in capsys.readouterr().out


def test_an_altered_file_is_refused(table_file, capsys):
    content = bytearray(table_file.read_bytes())
    content[-20] ^= 1
    table_file.write_bytes(content)
    code, error = _fails(capsys, "verify", table_file)
    assert code == 2
    assert f"{table_file} was altered" in error


def test_a_certificate_that_flatters_is_refused(tmp_path, capsys):
    table = make_table(StepDesign(n_max=30, alpha_per_side=0.03))
    flattering = dataclasses.replace(table.certificate, type1_sup=0.01)
    path = tmp_path / "forged.table"
    write_table(path, StepTable(boundary=table.boundary, certificate=flattering))
    code, error = _fails(capsys, "verify", path)
    assert code == 2
    assert f"{path} states type1_sup 0.01, but it is 0.02" in error


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "one of the two"),
        (["a.table", "--n-max", "5"], "one of the two"),
        (["absent"], "absent"),
    ],
)
def test_what_to_verify_must_be_named_once_and_exist(capsys, options, complaint):
    code, error = _fails(capsys, "verify", *options)
    assert (code, error.count("\n")) == (2, 1)
    assert complaint in error
