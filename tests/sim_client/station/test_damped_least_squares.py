"""The written-out solution of an arm's damped least squares is the one that numpy finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_client.station.damped_least_squares import damped_least_squares


@given(st.integers(min_value=0, max_value=2**32 - 1), st.sampled_from([0, 1, 4, 7]))
def test_it_minimises_the_damped_error(seed: int, num_joints: int) -> None:
    rng = np.random.default_rng(seed)
    J = rng.uniform(-1.0, 1.0, size=(6, num_joints))
    move, secondary = rng.uniform(-1.0, 1.0, size=6), rng.uniform(-1.0, 1.0, size=num_joints)
    damping = 0.02**2
    columns = [tuple(column) for column in J.T.tolist()]
    found = damped_least_squares(columns, move.tolist(), secondary.tolist(), damping)
    # min |J x - move|^2 + damping |x - secondary|^2, as one plain least-squares problem.
    stacked = np.vstack([J, np.sqrt(damping) * np.eye(num_joints)])
    aim = np.concatenate([move, np.sqrt(damping) * secondary])
    expected = np.linalg.lstsq(stacked, aim)[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
