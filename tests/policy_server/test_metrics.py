"""What is counted, and what is said of it at the end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.client import PolicyClient, PolicyServerRefusedError
from policy_server.metrics import LatencyHistogram
from policy_server.testing import NoisePolicy, running_server


@given(st.lists(st.floats(2e-5, 100), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_right_to_a_bucket(durations_s, percent) -> None:
    histogram = LatencyHistogram()
    for duration_s in durations_s:
        histogram.add(duration_s)
    exact_ms = 1e3 * np.percentile(durations_s, percent, method="inverted_cdf")
    assert histogram.percentile_ms(percent) == pytest.approx(exact_ms, rel=0.06)


def test_nothing_is_no_number_and_extremes_have_a_place() -> None:
    histogram = LatencyHistogram()
    assert math.isnan(histogram.percentile_ms(50))
    assert str(histogram) == "none"
    for duration_s in (0.0, 1e-9, 1e9):
        histogram.add(duration_s)
    assert histogram.count == 3


def test_the_server_counts_what_it_did(make_observation) -> None:
    with (
        running_server(NoisePolicy(chunk_length=4)) as server,
        PolicyClient(server.address) as client,
    ):
        for seed in range(2):
            client.reset(seed=seed)
            for _ in range(6):
                client.step(make_observation())
        with PolicyClient(server.address) as other, pytest.raises(PolicyServerRefusedError):
            other.step(make_observation())
        server.wait_until(lambda running: running.num_in_flight == 0)
        metrics = server.server.metrics
    assert (metrics.num_episodes, metrics.num_steps, metrics.num_refusals) == (2, 12, 1)
    assert (metrics.planning.count, metrics.cached.count) == (4, 8)
    assert (metrics.num_plans, metrics.num_batches, metrics.mean_batch_size) == (4, 4, 1)
    assert "answered 12 steps of 2 episodes, refused 1 calls" in metrics.summary()
