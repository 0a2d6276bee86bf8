"""Run one verb: arguments in, one call, errors as one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from policy_interface.usage import UsageError
from trainer.checkpoint_files import CheckpointError
from trainer.data.errors import DataError
from trainer.distributed import RankLostError, is_told_by_first_rank
from trainer.launching import RanksEndedError
from trainer.learner import TrainingDivergedError
from trainer.out_of_memory import TrainingOutOfMemoryError
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunError
from trainer.scarce_memory import OutOfMemoryError
from trainer.training_loop import TrainingInterruptedError
from trainer.verbs import ask, average, inspect, recipes, sample, train


class VerbError(Exception):
    """One line for the user, and the exit code that goes with it.

    is_told: by the first of several ranks, and so by none of the others.
    """

    def __init__(self, message: str, exit_code: int, *, is_told: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_told = is_told

    @staticmethod
    def of(error: Exception, exit_code: int) -> VerbError:
        return VerbError(str(error), exit_code, is_told=is_told_by_first_rank(error))


def run_verb(verb: str, arguments: Sequence[str]) -> None:
    """Raises VerbError for whatever the user can do something about."""
    try:
        _VERBS[verb](arguments)
    except (UsageError, ConfigurationError, DataError, RunError, CheckpointError) as error:
        raise VerbError.of(error, 2) from error
    except TrainingInterruptedError as error:
        raise VerbError.of(error, 130) from error
    except RanksEndedError as error:
        raise VerbError(str(error), error.exit_code, is_told=error.is_told) from error
    except (
        TrainingDivergedError,
        TrainingOutOfMemoryError,
        OutOfMemoryError,
        RankLostError,
        OSError,
    ) as error:
        raise VerbError.of(error, 1) from error


_VERBS: Mapping[str, Callable[[Sequence[str]], None]] = MappingProxyType(
    {
        "train": train.main,
        "list": recipes.list_recipes,
        "show": recipes.show,
        "sample": sample.main,
        "ask": ask.main,
        "inspect": inspect.main,
        "average": average.main,
    }
)
