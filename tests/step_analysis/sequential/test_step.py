import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.step import CACHE_FOLDER_VARIABLE, StepTest, cached_boundary
from step_analysis.sequential.step_synthesis import synthesise

_PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=50)

_HALF = np.concatenate([np.geomspace(1e-4, 0.02, 12), np.linspace(0.025, 0.5, 30)])
_RATES = np.concatenate([_HALF, 1.0 - _HALF])


@pytest.mark.parametrize("budget", ["50", "100"])
def test_it_is_as_powerful_as_published(reference, budget):
    rows = np.array(reference("power")["budgets"][budget]["step"])
    p0, p1, arm1_better, arm0_better, expected_time = rows.T
    mine = operating_characteristics(cached_boundary(int(budget), 0.05), p0, p1)
    alternatives = p1 > p0
    assert (mine.arm1_better >= arm1_better - 0.005)[alternatives].all()
    assert (mine.expected_time <= 1.02 * expected_time).all()
    assert (mine.arm0_better <= arm0_better + 1e-6)[alternatives].all()


@pytest.mark.parametrize(
    ("n_max", "alpha"),
    [*((n, 0.025) for n in range(1, 13)), (50, 0.05), (50, 0.025), (60, 0.05 / 66), (100, 0.05)],
)
def test_the_error_on_either_side_is_at_most_alpha(n_max, alpha):
    boundary = cached_boundary(n_max, alpha)
    equal = operating_characteristics(boundary, _RATES, _RATES)
    assert equal.arm1_better.max() <= alpha
    assert equal.arm0_better.max() <= alpha
    grid = np.linspace(0.02, 0.98, 9)
    worse0, worse1 = np.meshgrid(grid, grid)
    below = worse0 > worse1
    wrong = operating_characteristics(boundary, worse0[below], worse1[below])
    assert wrong.arm1_better.max() <= alpha


def test_a_budget_of_fifty_spends_nearly_all_of_alpha():
    equal = operating_characteristics(cached_boundary(50, 0.05), _RATES, _RATES)
    assert equal.arm1_better.max() > 0.98 * 0.05


@pytest.mark.parametrize("n_max", [1, 2, 3, 4, 5, 9])
def test_small_budgets_decide_when_they_can(n_max):
    verdict = StepTest(n_max, 0.05).run([0] * n_max, [1] * n_max)
    # Equal rates of 1/2 give an all-or-nothing difference of n episodes with chance 4**-n.
    assert verdict.decision == (1 if n_max >= 3 else 0)
    assert verdict.time <= n_max


@given(pairs=_PAIRS)
def test_swapping_arms_or_success_and_failure_mirrors_the_verdict(pairs):
    test = StepTest(50, 0.05)
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    verdict = test.run(x, y)
    for swapped in (test.run(y, x), test.run([1 - o for o in x], [1 - o for o in y])):
        assert (swapped.decision, swapped.time) == (-verdict.decision, verdict.time)


@given(pairs=_PAIRS)
def test_a_verdict_stands_whatever_comes_after(pairs):
    test = StepTest(50, 0.05)
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    verdict = test.run(x, y)
    assert test.run(x[: verdict.time], y[: verdict.time]) == verdict
    before = test.run(x[: verdict.time - 1], y[: verdict.time - 1])
    assert before.decision == 0 or verdict.decision == 0


@given(pairs=_PAIRS)
def test_the_leads_to_stop_are_where_it_stops(pairs):
    test = StepTest(50, 0.05)
    x, y = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], int)
    verdict = test.run(x, y)
    lead = np.cumsum(y) - np.cumsum(x)
    for_arm1, for_arm0 = test.leads_to_stop(x, y)
    reached = np.flatnonzero((lead >= for_arm1) | (-lead >= for_arm0))
    assert (verdict.decision != 0) == (len(reached) > 0)
    assert not len(reached) or verdict.time == reached[0] + 1


def test_runs_behave_as_the_exact_calculation_says():
    n, p0, p1, num_runs = 30, 0.35, 0.65, 4000
    test = StepTest(n, 0.05)
    rng = np.random.default_rng(7)
    x, y = rng.random((num_runs, n)) < p0, rng.random((num_runs, n)) < p1
    verdicts = [test.run(a, b) for a, b in zip(x.astype(int), y.astype(int), strict=True)]
    exact = operating_characteristics(test.boundary, p0, p1)
    power = np.mean([verdict.decision == 1 for verdict in verdicts])
    time = np.mean([verdict.time for verdict in verdicts])
    assert power == pytest.approx(float(exact.arm1_better), abs=4.0 * 0.5 / np.sqrt(num_runs))
    assert time == pytest.approx(float(exact.expected_time), abs=4.0 * n / 2 / np.sqrt(num_runs))


def test_its_decisions_differ_from_the_randomised_form_only_by_deciding(reference):
    oracle = reference("sequential_decisions")
    test = StepTest(oracle["n_max"], oracle["alpha_per_side"])
    differing = []
    for x, y, *_, decision in oracle["records"]:
        mine = test.run([*map(int, x)], [*map(int, y)]).decision
        if mine != decision:
            differing.append((decision, mine))
    assert len(differing) <= 0.03 * len(oracle["records"])
    assert all(decision == 0 for decision, _ in differing)


def test_synthesis_is_deterministic():
    first, second = synthesise(25, 0.03), synthesise(25, 0.03)
    assert (first.stop_at == second.stop_at).all()


@pytest.mark.parametrize(("n_max", "alpha"), [(0, 0.05), (50, 0.0), (50, 0.5), (50, 1.0)])
def test_an_impossible_design_is_refused(n_max, alpha):
    with pytest.raises(ValueError, match="must"):
        StepTest(n_max, alpha)


@pytest.mark.parametrize(("x", "y"), [([1], []), ([2], [0]), ([[1]], [[0]]), ([1] * 9, [0] * 9)])
def test_wrong_outcomes_are_refused(x, y):
    with pytest.raises(ValueError, match=r"outcomes|length|fixed beforehand"):
        StepTest(8, 0.05).run(x, y)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_FOLDER_VARIABLE, str(tmp_path / "cache"))
    cached_boundary.cache_clear()
    return tmp_path / "cache"


def test_a_boundary_is_kept_and_a_damaged_one_made_anew(fresh_cache):
    boundary = cached_boundary(12, 0.05)
    (path,) = fresh_cache.iterdir()
    content = path.read_bytes()
    for damaged in (b"", content[:40], b"PK" + bytes(300), content[:-30]):
        path.write_bytes(damaged)
        cached_boundary.cache_clear()
        assert (cached_boundary(12, 0.05).stop_at == boundary.stop_at).all()
        assert path.read_bytes() == content


def test_a_kept_boundary_is_used_and_one_of_another_budget_is_not(fresh_cache):
    cached_boundary(12, 0.05)
    (path,) = fresh_cache.iterdir()
    never = np.full((13, 13), 13, dtype=np.int16)
    np.savez_compressed(path, stop_at=never)
    cached_boundary.cache_clear()
    assert (cached_boundary(12, 0.05).stop_at == never).all()
    np.savez_compressed(path, stop_at=np.full((14, 14), 14, dtype=np.int16))
    cached_boundary.cache_clear()
    assert cached_boundary(12, 0.05).stop_at.shape == (13, 13)


def test_an_unusable_cache_folder_costs_only_time(tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    monkeypatch.setenv(CACHE_FOLDER_VARIABLE, str(in_the_way / "cache"))
    cached_boundary.cache_clear()
    assert StepTest(12, 0.05).run([0] * 12, [1] * 12).decision == 1


def _run_one(n_max: int) -> int:
    return StepTest(n_max, 0.05).run([0] * n_max, [1] * n_max).time


def test_two_processes_may_make_a_boundary_at_once(fresh_cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        times = pool.map(_run_one, [20, 20], chunksize=1)
    assert times[0] == times[1]
    assert [path.suffix for path in fresh_cache.iterdir()] == [".npz"]
