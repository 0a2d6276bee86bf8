"""What the verbs of the console script do: arguments in, one call, errors as one line each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from policy_interface.usage import UsageError, parse_or_say_why
from trainer.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from trainer.configuration import ConfigurationError, TrainConfig
from trainer.configuration_json import config_from_json
from trainer.data.errors import DataError
from trainer.learner import TrainingDivergedError
from trainer.recipes import RECIPES, find_recipe
from trainer.run_directory import RunError
from trainer.training_loop import TrainingInterruptedError, train

_Arguments = TypeVar("_Arguments")


class VerbError(Exception):
    """One line for the user, and the exit code that goes with it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Train a policy by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        config: Every field of the recipe may be changed.
    """

    output: Path
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class InspectArguments:
    """Say what a checkpoint is, after verifying every file of it.

    Attributes:
        checkpoint: Its folder, such as runs/box/checkpoints/final.
        json: Print JSON.
    """

    checkpoint: tyro.conf.Positional[Path]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def run_verb(verb: str, arguments: Sequence[str]) -> None:
    """Raises VerbError for whatever the user can do something about."""
    try:
        if verb == "train":
            _train(arguments)
        else:
            _inspect(arguments)
    except (ConfigurationError, DataError, RunError, CheckpointError) as error:
        raise VerbError(str(error), 2) from error
    except TrainingInterruptedError as error:
        raise VerbError(str(error), 130) from error
    except (TrainingDivergedError, OSError) as error:
        raise VerbError(str(error), 1) from error


def _train(arguments: Sequence[str]) -> None:
    wants_help = bool({"-h", "--help"} & set(arguments))
    if arguments and not arguments[0].startswith("-"):
        recipe, *options = arguments
    elif wants_help:
        recipe, options = next(iter(RECIPES)), list(arguments)
    else:
        raise VerbError(
            f"train: first a recipe ({', '.join(RECIPES)}) or the config.json of a run", 2
        )
    parsed = _parse(
        TrainArguments,
        options,
        program=f"trainer train {recipe}",
        description=(
            f"Train a policy, or resume its training. Recipes: {', '.join(RECIPES)}; or the path "
            "of a run's config.json, to train the same again.\n\nexample: trainer train "
            "pick_and_place_box --data demos/PickAndPlaceBox --output runs/box "
            "--optimizer.learning-rate 3e-4"
        ),
        default=TrainArguments(output=tyro.MISSING, config=_starting_config(recipe)),
    )
    if not parsed.config.data:
        raise VerbError("train: --data: give the folder of demonstrations", 2)
    print(train(parsed.config, parsed.output))


def _starting_config(recipe: str) -> TrainConfig:
    """Of a recipe's name, or of the config.json of a run."""
    if not recipe.endswith(".json"):
        return find_recipe(recipe)
    try:
        return config_from_json(Path(recipe).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise VerbError(f"{recipe}: cannot be read: {error}", 2) from error


def _inspect(arguments: Sequence[str]) -> None:
    parsed = _parse(
        InspectArguments,
        arguments,
        program="trainer inspect",
        description="Say what a checkpoint is, after verifying every file of it.\n\n"
        "example: trainer inspect runs/box/checkpoints/final",
        default=None,
    )
    facts = describe_checkpoint(read_checkpoint(parsed.checkpoint))
    if parsed.json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {_in_words(value)}")


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The facts that `trainer inspect` prints."""
    provenance, config, contract = checkpoint.provenance, checkpoint.config, checkpoint.contract
    return {
        "name": config.name,
        "sha256": checkpoint.digest,
        "optimizer_step": provenance.get("optimizer_step"),
        "total_steps": provenance.get("total_steps"),
        "tasks": provenance.get("tasks"),
        "held_out_action_error": provenance.get("held_out_action_error"),
        "cameras": {name: str(size) for name, size in contract.cameras.items()},
        "arms": list(contract.arms),
        "control_rate_hz": contract.control_rate_hz,
        "chunk_length": config.chunk_length,
        "serving": asdict(config.serving),
        "num_parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
        "weights_format": config.weights_format,
        "num_bytes": checkpoint.num_bytes,
        "num_episodes": provenance.get("num_episodes"),
        "data_sha256": provenance.get("data_sha256"),
        "seed": config.seed,
        "created": provenance.get("created"),
        "training_s": provenance.get("training_s"),
        "git_sha": provenance.get("git_sha"),
        "git_dirty": provenance.get("git_dirty"),
        "versions": provenance.get("versions"),
    }


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)


def _parse(
    kind: type[_Arguments],
    arguments: Sequence[str],
    *,
    program: str,
    description: str,
    default: _Arguments | None,
) -> _Arguments:
    """Like tyro.cli, but bad usage is a VerbError of one line instead of a box of many."""
    options: dict[str, Any] = {} if default is None else {"default": default}
    try:
        return parse_or_say_why(
            lambda: tyro.cli(kind, args=arguments, prog=program, description=description, **options)
        )
    except UsageError as error:
        raise VerbError(f"{error}; see {program} --help", 2) from error
