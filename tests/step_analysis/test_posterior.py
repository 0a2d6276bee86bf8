import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from step_analysis.intervals import BetaPosterior
from step_analysis.posterior import probability_better

_posteriors = st.integers(0, 300).flatmap(
    lambda n: st.builds(BetaPosterior, successes=st.integers(0, n), num_episodes=st.just(n))
)


@pytest.mark.parametrize(
    ("counts0", "counts1"), [((3, 10), (7, 12)), ((0, 5), (5, 5)), ((50, 60), (40, 70))]
)
def test_it_is_the_integral(counts0, counts1):
    first, second = (BetaPosterior(successes=s, num_episodes=n) for s, n in (counts0, counts1))
    integral, _ = quad(
        lambda p: beta.pdf(p, first.a, first.b) * beta.sf(p, second.a, second.b), 0.0, 1.0
    )
    assert probability_better(first, second) == pytest.approx(integral, abs=1e-9)


@given(first=_posteriors, second=_posteriors)
def test_swapping_arms_or_outcomes_mirrors_it(first, second):
    probability = probability_better(first, second)
    assert 0.0 <= probability <= 1.0
    assert probability_better(second, first) == pytest.approx(1.0 - probability, abs=1e-10)
    failures0, failures1 = (
        BetaPosterior(successes=p.num_episodes - p.successes, num_episodes=p.num_episodes)
        for p in (first, second)
    )
    assert probability_better(failures1, failures0) == pytest.approx(probability, abs=1e-10)


@given(posterior=_posteriors)
def test_equal_posteriors_are_even(posterior):
    assert probability_better(posterior, posterior) == pytest.approx(0.5, abs=1e-9)


def test_thousands_of_episodes_are_as_exact():
    first = BetaPosterior(successes=1900, num_episodes=3800)
    second = BetaPosterior(successes=1950, num_episodes=3800)
    rng = np.random.default_rng(1)
    share = np.mean(rng.beta(first.a, first.b, 400_000) < rng.beta(second.a, second.b, 400_000))
    assert probability_better(first, second) == pytest.approx(share, abs=0.003)
