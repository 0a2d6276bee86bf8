import dataclasses
import hashlib
import json
import logging
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from step_analysis.sequential.certificate import certify
from step_analysis.sequential.risk_budget import ZetaBudget
from step_analysis.sequential.step import StepTest
from step_analysis.sequential.step_boundary import StepBoundary
from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_tables import (
    CACHE_FOLDER_VARIABLE,
    SHIPPED_TABLES,
    StepTable,
    TableError,
    cache_folder,
    find_table,
    make_table,
    read_table,
    table_name,
    table_path,
    write_table,
)

_DESIGN = StepDesign(n_max=12, alpha_per_side=0.037)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_FOLDER_VARIABLE, str(tmp_path / "cache"))
    find_table.cache_clear()
    return tmp_path / "cache"


def test_a_table_is_made_once_and_then_read(fresh_cache):
    made = find_table(_DESIGN)
    (path,) = fresh_cache.iterdir()
    assert path == table_path(_DESIGN)
    content = path.read_bytes()
    find_table.cache_clear()
    found = find_table(_DESIGN)
    assert (found.boundary.stop_at == made.boundary.stop_at).all()
    assert found.certificate == made.certificate
    assert path.read_bytes() == content


@pytest.mark.parametrize("form", ["deterministic", "randomised"])
@pytest.mark.parametrize("n_max", [1, 2, 5, 30])
def test_a_table_survives_its_file(tmp_path, form, n_max):
    design = StepDesign(
        n_max=n_max, alpha_per_side=0.04, budget=ZetaBudget(exponent=0.5), form=form
    )
    table = make_table(design)
    write_table(tmp_path / "a.table", table)
    found = read_table(tmp_path / "a.table", design)
    for field in dataclasses.fields(table.boundary):
        was, now = getattr(table.boundary, field.name), getattr(found.boundary, field.name)
        assert np.array_equal(was, now) if isinstance(was, np.ndarray) else was == now
    assert found.certificate == table.certificate


def test_designs_that_differ_in_anything_have_different_files():
    designs = [
        _DESIGN,
        StepDesign(n_max=13, alpha_per_side=0.037),
        StepDesign(n_max=12, alpha_per_side=0.0370001),
        StepDesign(n_max=12, alpha_per_side=0.037, budget=ZetaBudget(exponent=1.0)),
        StepDesign(n_max=12, alpha_per_side=0.037, form="randomised"),
    ]
    assert len({table_path(design) for design in designs}) == len(designs)
    assert StepDesign(n_max=12, alpha_per_side=1.0 - 0.95) == StepDesign(
        n_max=12, alpha_per_side=0.05
    )


def _damaged(content: bytes) -> list[tuple[bytes, str]]:
    middle = len(content) // 2
    return [
        (b"", "is not a STEP table"),
        (b"PK" + bytes(300), "is not a STEP table"),
        (content[:40], "was altered"),
        (content[:-3], "was altered"),
        (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], "was altered"),
        (content.replace(b'"n_max": 12', b'"n_max": 13'), "was altered"),
    ]


def test_an_altered_table_is_refused_by_name(fresh_cache):
    find_table(_DESIGN)
    (path,) = fresh_cache.iterdir()
    for content, message in _damaged(path.read_bytes()):
        path.write_bytes(content)
        find_table.cache_clear()
        with pytest.raises(TableError, match=message) as refusal:
            StepTest(12, 0.037)
        assert str(path) in str(refusal.value)
    path.unlink()
    assert StepTest(12, 0.037).run([0] * 12, [1] * 12).decision == 1


def _with_header(content: bytes, **changes) -> bytes:
    """The table with another header and a checksum that fits it."""
    _, head, payload = content.split(b"\n", 2)
    rest = json.dumps(json.loads(head) | changes).encode() + b"\n" + payload
    return b"assay-step-table 1 " + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_max": 13}, "bytes, expected"),
        ({"n_max": 0}, "n_max must be"),
        ({"n_max": 12.5}, "n_max"),
        ({"alpha_per_side": 0.01}, "exceeds alpha"),
        ({"alpha_per_side": "a"}, "alpha_per_side must be a finite number"),
        ({"algorithm_version": 1}, "algorithm_version is 1, expected"),
        ({"form": "other"}, "form must be"),
        ({"budget": {"kind": "cubic"}}, "budget kind 'cubic'"),
        ({"certificate": {}}, "certificate must be an object of type1_sup"),
        ({"certificate": 3}, "certificate must be an object of type1_sup"),
    ],
)
def test_a_forged_header_is_refused_by_field(fresh_cache, changes, message):
    find_table(_DESIGN)
    (path,) = fresh_cache.iterdir()
    path.write_bytes(_with_header(path.read_bytes(), **changes))
    with pytest.raises(TableError, match=message) as refusal:
        read_table(path)
    assert str(path) in str(refusal.value)


def test_a_table_of_another_design_is_refused(fresh_cache):
    write_table(table_path(_DESIGN), make_table(StepDesign(n_max=12, alpha_per_side=0.05)))
    with pytest.raises(TableError, match=r"is for deterministic-n12-alpha0\.05-linear, not for"):
        find_table(_DESIGN)


def test_a_boundary_that_spends_too_much_gets_no_table():
    boundary = find_table(StepDesign(n_max=30, alpha_per_side=0.05)).boundary
    assert isinstance(boundary, StepBoundary)
    greedy = StepBoundary(
        design=StepDesign(n_max=30, alpha_per_side=0.02), stop_at=boundary.stop_at
    )
    with pytest.raises(ValueError, match="exceeds alpha"):
        StepTable(boundary=greedy, certificate=certify(greedy))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({(10, 3): 3}, "above the diagonal"),
        ({(10, 3): 14}, "within n_max"),
        ({(12, 3): 4}, "must not decrease"),
    ],
)
def test_what_is_no_boundary_is_refused(changes, message):
    boundary = find_table(_DESIGN).boundary
    stop_at = boundary.stop_at.copy()
    for place, value in changes.items():
        stop_at[place] = value
    with pytest.raises(ValueError, match=message):
        StepBoundary(design=_DESIGN, stop_at=stop_at)


def test_an_unusable_cache_folder_costs_time_and_a_warning(tmp_path, monkeypatch, caplog):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    monkeypatch.setenv(CACHE_FOLDER_VARIABLE, str(in_the_way / "cache"))
    find_table.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert StepTest(12, 0.037).run([0] * 12, [1] * 12).decision == 1
    assert str(in_the_way) in caplog.text
    assert CACHE_FOLDER_VARIABLE in caplog.text


def test_the_cache_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE_FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "assay"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder().is_relative_to(tmp_path / "home")


def test_a_user_without_a_home_gets_shipped_and_new_tables(monkeypatch, caplog):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(CACHE_FOLDER_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    find_table.cache_clear()
    StepTest(50, 0.025)
    assert not caplog.records
    StepTest(12, 0.037)
    assert CACHE_FOLDER_VARIABLE in caplog.text


def test_shipped_tables_are_whole_and_used_without_the_cache(fresh_cache):
    paths = sorted(SHIPPED_TABLES.glob("*.table"))
    assert paths
    assert sum(path.stat().st_size for path in paths) < 3_000_000
    for path in paths:
        table = read_table(path)
        assert path.name == table_name(table.design)
    StepTest(200, 0.025)
    assert not fresh_cache.exists()


def test_a_shipped_table_is_what_synthesis_makes():
    design = StepDesign(n_max=100, alpha_per_side=0.025 / 3)
    shipped = read_table(SHIPPED_TABLES / table_name(design), design)
    made = make_table(design)
    assert (made.boundary.stop_at == shipped.boundary.stop_at).all()
    assert made.certificate.type1_sup == pytest.approx(shipped.certificate.type1_sup, rel=1e-9)


def _run_one(n_max: int) -> int:
    return StepTest(n_max, 0.037).run([0] * n_max, [1] * n_max).time


def test_two_processes_may_make_a_table_at_once(fresh_cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        times = pool.map(_run_one, [20, 20], chunksize=1)
    assert times[0] == times[1]
    assert [path.suffix for path in fresh_cache.iterdir()] == [".table"]
