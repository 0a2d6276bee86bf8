"""What was done in an episode, action by action, and what came of it, bit by bit.

    demonstration_7/actions.npz   read without pickle, by numpy alone

An episode whose log is at hand can be simulated again, without its policy.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sim_client.action_vector import ACTION_SIZE
from step_analysis.atomic_file import write_atomically

ACTION_LOG_FILE_NAME = "actions.npz"
_VERSION = 1
_DIGEST_BYTES = 32

Array = npt.NDArray[np.float64]


class ActionLogError(Exception):
    """A file that is no action log; the text names it, in one line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ActionLog:
    """One episode of N control steps, as it was executed.

    protocol_json: what it was simulated under. actions: (N, 20) as executed, measured: (N, 20)
    where the arms were when each was asked for, both laid out as in sim_client.action_vector;
    times_s: (N,) of the asking. state_digests: (N + 1, 32) uint8, the SHA-256 of the simulated
    state after the reset and after each step; a last row may be missing where a step failed.
    """

    task: str
    scenario_index: int
    seed: int
    protocol_json: str
    instruction: str
    times_s: Array
    actions: Array
    measured: Array
    state_digests: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        num_steps = len(self.times_s)
        for name, shape in (
            ("times_s", (num_steps,)),
            ("actions", (num_steps, ACTION_SIZE)),
            ("measured", (num_steps, ACTION_SIZE)),
        ):
            given = getattr(self, name)
            if given.shape != shape or given.dtype != np.float64:
                raise ActionLogError(
                    f"{name}: expected {shape} numbers, got {given.shape} of {given.dtype}"
                )
        digests = self.state_digests
        if digests.dtype != np.uint8 or digests.shape[1:] != (_DIGEST_BYTES,):
            raise ActionLogError(
                f"state_digests: expected (N, {_DIGEST_BYTES}) bytes, got {digests.shape} of "
                f"{digests.dtype}"
            )
        if not num_steps <= len(digests) <= num_steps + 1:
            raise ActionLogError(
                f"state_digests: expected {num_steps + 1} for {num_steps} steps, got {len(digests)}"
            )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """By the names under which they are in the file."""
        return {
            "version": np.array(_VERSION),
            "task": np.array(self.task),
            "scenario_index": np.array(self.scenario_index),
            "seed": np.array(self.seed),
            "protocol": np.array(self.protocol_json),
            "instruction": np.array(self.instruction),
            "times_s": self.times_s,
            "actions": self.actions,
            "measured": self.measured,
            "state_digests": self.state_digests,
        }


def write_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """An npz, whole or not at all. Raises OSError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def load_action_log(path: Path) -> ActionLog:
    """Raises ActionLogError for a file that is missing, damaged, or something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            version = int(file["version"])
            if version != _VERSION:
                raise ActionLogError(
                    f"{path}: version {version} can't be read, this code reads version {_VERSION}"
                )
            return ActionLog(
                task=str(file["task"]),
                scenario_index=int(file["scenario_index"]),
                seed=int(file["seed"]),
                protocol_json=str(file["protocol"]),
                instruction=str(file["instruction"]),
                times_s=file["times_s"],
                actions=file["actions"],
                measured=file["measured"],
                state_digests=file["state_digests"],
            )
    except ActionLogError as error:
        raise ActionLogError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except OSError as error:
        raise ActionLogError(f"{path}: can't be read: {error.strerror or error}") from None
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ActionLogError(f"{path}: no action log: {error}") from None
