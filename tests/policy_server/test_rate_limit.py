"""The rate limit's laws, in virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_server.rate_limit import RateLimiter


class _Clock:
    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


_RATES = st.floats(0.1, 1000)
_BURSTS = st.integers(1, 20)
# A monotonic clock says how long the machine is up.
_STARTS = st.floats(0, 1e7)
_GAPS = st.lists(st.floats(0, 2), max_size=60)


@given(_RATES, _BURSTS, _STARTS, _GAPS)
def test_no_stretch_of_time_holds_more_than_the_burst_and_the_rate(
    rate, burst, start_s, gaps
) -> None:
    clock = _Clock(start_s)
    limiter = RateLimiter(max_calls_per_s=rate, burst=burst, clock=clock)
    allowed_s = []
    for gap in gaps:
        clock.now_s += gap / rate
        if limiter.take("a") == 0:
            allowed_s.append(clock.now_s)
    for first, begun_s in enumerate(allowed_s):
        for last in range(first, len(allowed_s)):
            most = burst + (allowed_s[last] - begun_s) * rate
            assert last - first + 1 <= most + 2e-3


@given(_RATES, _BURSTS, _STARTS, st.integers(1, 40))
def test_who_waits_as_told_is_always_let_in(rate, burst, start_s, num_calls) -> None:
    clock = _Clock(start_s)
    limiter = RateLimiter(max_calls_per_s=rate, burst=burst, clock=clock)
    for call in range(num_calls):
        wait_s = limiter.take("a")
        assert (wait_s == 0) == (call < burst)
        # In a full bucket's time, whatever was refused meanwhile.
        assert wait_s <= 1 / rate + 1e-6
        if wait_s > 0:
            clock.now_s += wait_s
            assert limiter.take("a") == 0


@given(_RATES, _BURSTS, _STARTS)
def test_a_client_under_the_rate_is_never_refused(rate, burst, start_s) -> None:
    clock = _Clock(start_s)
    limiter = RateLimiter(max_calls_per_s=rate, burst=burst, clock=clock)
    for _ in range(50):
        assert limiter.take("a") == 0
        clock.now_s += 1.0001 / rate + 1e-8


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), max_size=80))
def test_clients_do_not_share_a_bucket(calls) -> None:
    clock = _Clock()
    together = RateLimiter(max_calls_per_s=3, burst=2, clock=clock)
    alone = {client: RateLimiter(max_calls_per_s=3, burst=2, clock=clock) for client in "abcd"}
    for client, gap_s in calls:
        clock.now_s += gap_s
        assert together.take(client) == alone[client].take(client)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), max_size=200), st.integers(1, 5))
def test_memory_is_bounded(calls, max_clients) -> None:
    clock = _Clock()
    limiter = RateLimiter(max_calls_per_s=1, burst=3, max_clients=max_clients, clock=clock)
    for client, gap_s in calls:
        clock.now_s += gap_s
        limiter.take(client)
        assert len(limiter) <= max_clients


def test_idle_clients_are_forgotten_before_any_that_matters() -> None:
    clock = _Clock()
    limiter = RateLimiter(max_calls_per_s=1, burst=1, max_clients=3, clock=clock)
    for client in ("a", "b"):
        assert limiter.take(client) == 0
    clock.now_s = 1.0
    assert limiter.take("c") == 0
    assert len(limiter) == 1
    assert limiter.take("c") == 1.0
    # One client too many, none of them idle: the one that called longest ago begins anew.
    for client in ("d", "e", "f"):
        assert limiter.take(client) == 0
    assert limiter.take("d") == 1.0
    assert limiter.take("c") == 0


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate) -> None:
    with pytest.raises(ValueError, match="max_calls_per_s: expected more than 0"):
        RateLimiter(max_calls_per_s=rate, burst=1)


@pytest.mark.parametrize("option", ["burst", "max_clients"])
def test_a_bound_of_none_is_refused(option) -> None:
    options = {"burst": 1, "max_clients": 1, option: 0}
    with pytest.raises(ValueError, match=f"{option}: expected at least 1, got 0"):
        RateLimiter(max_calls_per_s=1, **options)
