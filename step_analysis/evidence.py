"""What a test may look at: the contiguous prefix of the episodes that both policies were asked for.

The order is fixed before any episode is run: by scenario index on one task, in shuffled blocks of
one episode of each over several. A test reads it up to the first episode that either policy has
not finished, so which ones finished early in real time can't matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.rollouts import Outcome

NOT_FINISHED = -1
ERROR = -2

_CODES = {
    Outcome.SUCCESS: 1,
    Outcome.FAILURE: 0,
    Outcome.TIMEOUT: 0,
    Outcome.ERROR: ERROR,
}

_BLOCK_ORDER_SEED = 20250613


@dataclass(frozen=True, kw_only=True)
class TaskOutcomes:
    """One policy on one task, by scenario index in order.

    `codes` are int8: 1 success, 0 failure or timeout, NOT_FINISHED, or ERROR (tried, by the
    infrastructure's fault without an outcome).
    """

    indices: np.ndarray
    codes: np.ndarray
    max_sample_size: int


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One policy's outcomes by task."""

    policy: str
    tasks: dict[str, TaskOutcomes]


@dataclass(frozen=True, kw_only=True)
class PairedOutcomes:
    """Both arms' outcomes 0 and 1, int8 of one length, as far as a test may look.

    `stopped_because` says why they end before the budget of `n_max`, None if they do not.
    """

    outcomes0: np.ndarray
    outcomes1: np.ndarray
    n_max: int
    stopped_because: str | None


def arm_of(policy: PolicyRollouts) -> Arm:
    """A policy's outcomes, ready to be paired with those of any other."""
    tasks = {name: _task_outcomes(rollouts) for name, rollouts in policy.tasks.items()}
    return Arm(policy=policy.policy, tasks=tasks)


def contiguous_prefix(codes0: np.ndarray, codes1: np.ndarray) -> int:
    """How many leading episodes have an outcome in both arms."""
    gaps = (codes0 < 0) | (codes1 < 0)
    return int(gaps.argmax()) if gaps.any() else len(gaps)


def pair_outcomes(arm0: Arm, arm1: Arm, tasks: Sequence[str]) -> PairedOutcomes:
    """What two arms have in common on some tasks, in testing order up to the first gap."""
    budget = min(arm.tasks[task].max_sample_size for arm in (arm0, arm1) for task in tasks)
    n_max = budget * len(tasks)
    common = [_common(arm0.tasks[task], arm1.tasks[task], budget) for task in tasks]
    num_blocks = min(len(indices) for indices, _, _ in common)
    order = block_order(len(tasks), num_blocks)
    block = np.arange(num_blocks)[:, None]
    indices, codes0, codes1 = (
        np.stack([columns[part][:num_blocks] for columns in common])[order, block].ravel()
        for part in range(3)
    )
    length = contiguous_prefix(codes0, codes1)
    if length < len(codes0):
        arm, code = (arm0, codes0[length]) if codes0[length] < 0 else (arm1, codes1[length])
        task = tasks[order.ravel()[length]]
        reason = "met an error in" if code == ERROR else "has not finished"
        stopped_because = f"{arm.policy} {reason} {task} scenario {indices[length]}"
    elif length == 0:
        stopped_because = "no scenario was asked of both"
    elif length < n_max:
        stopped_because = f"{length} of the budget of {n_max} episodes were asked for"
    else:
        stopped_because = None
    return PairedOutcomes(
        outcomes0=codes0[:length],
        outcomes1=codes1[:length],
        n_max=n_max,
        stopped_because=stopped_because,
    )


def block_order(num_tasks: int, num_blocks: int) -> np.ndarray:
    """The task of each episode, by blocks of one episode of each: shape (num_blocks, num_tasks).

    Shuffled by a fixed seed within the block, so that at any time every task has the same weight
    and none leads each block. More blocks leave the earlier ones as they are.
    """
    # Made for powers of two: who asks for one block more each time gets a part of the same array.
    return _block_order(num_tasks, 1 << (num_blocks - 1).bit_length())[:num_blocks]


@lru_cache(maxsize=64)
def _block_order(num_tasks: int, num_blocks: int) -> np.ndarray:
    order = np.empty((num_blocks, num_tasks), dtype=np.int64)
    for block in range(num_blocks):
        order[block] = np.random.default_rng((_BLOCK_ORDER_SEED, block)).permutation(num_tasks)
    order.setflags(write=False)
    return order


def _task_outcomes(rollouts: TaskRollouts) -> TaskOutcomes:
    indices = sorted(rollouts.requested)
    codes = np.full(len(indices), NOT_FINISHED, dtype=np.int8)
    for position, index in enumerate(indices):
        record = rollouts.outcomes.get(index)
        if record is not None:
            codes[position] = _CODES[record.outcome]
    return TaskOutcomes(
        indices=np.array(indices, dtype=np.int64),
        codes=codes,
        max_sample_size=rollouts.max_sample_size,
    )


def _common(
    task0: TaskOutcomes, task1: TaskOutcomes, budget: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scenarios asked of both, up to the budget, with both arms' codes."""
    if np.array_equal(task0.indices, task1.indices):
        return task0.indices[:budget], task0.codes[:budget], task1.codes[:budget]
    indices, at0, at1 = np.intersect1d(
        task0.indices, task1.indices, assume_unique=True, return_indices=True
    )
    return indices[:budget], task0.codes[at0][:budget], task1.codes[at1][:budget]
