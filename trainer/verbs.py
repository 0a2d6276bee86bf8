"""What the verbs of the console script do: arguments in, one call, errors as one line each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import torch
import tyro
from tqdm import tqdm

from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.asking import questions_of, scores
from trainer.checkpoint import Checkpoint, read_checkpoint
from trainer.checkpoint_files import CheckpointError, checkpoint_kind
from trainer.configuration import ConfigurationError, PolicyConfig, TrainConfig
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.errors import DataError
from trainer.data.text.sources import open_source
from trainer.distributed import RankLostError, is_told_by_first_rank
from trainer.language_checkpoint import LanguageCheckpoint, read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.language_sampling import continuation
from trainer.learner import TrainingDivergedError
from trainer.metric_sinks import TrackerName
from trainer.models.language.generation import GenerationConfig
from trainer.recipes import RECIPES, find_recipe, summary
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunError
from trainer.speaker import SPEAKING_KINDS, Speaker, read_speaker
from trainer.stages.beginnings import shaped_like_its_beginning
from trainer.stages.language_data import Vocabulary
from trainer.training_loop import TrainingInterruptedError, resolve, train
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_checkpoint import read_vision_language_checkpoint
from trainer.vision_language_configuration import VisionLanguageTrainConfig

_Arguments = TypeVar("_Arguments")
_Module = TypeVar("_Module", bound=torch.nn.Module)


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


@dataclass(frozen=True, kw_only=True)
class PolicyTrainArguments:
    """Train a policy by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class VisionLanguageActionTrainArguments:
    """Train a policy that sees, reads and acts by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[VisionLanguageActionTrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class VisionLanguageTrainArguments:
    """Train a model that answers about pictures by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[VisionLanguageTrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class LanguageTrainArguments:
    """Train a language model by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[LanguageTrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class InspectArguments:
    """Say what a checkpoint is, after verifying every file of it.

    Attributes:
        checkpoint: Its folder, such as runs/box/checkpoints/final.
        json: Print JSON.
    """

    checkpoint: tyro.conf.Positional[Path]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@dataclass(frozen=True, kw_only=True)
class SampleArguments:
    """Let a language model go on from a prompt, or a vision-language model or a policy answer.

    Attributes:
        checkpoint: Its folder, such as runs/lm/checkpoints/final.
        prompt: A document's beginning; a question to a vision-language model or a policy.
        image: A JPEG or PNG file that the question is about.
        max_new_tokens: Tokens that are said, at most.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Only so many of the likeliest tokens may be drawn; None for all.
        top_p: Only the likeliest tokens that together have this probability; 1 for all.
        num_samples: Continuations, each of another seed.
        seed: Of the first one's draws.
        device: cpu, cuda or cuda:N.
    """

    checkpoint: tyro.conf.Positional[Path]
    prompt: tyro.conf.Positional[str]
    image: Path | None = None
    max_new_tokens: int = 128
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    num_samples: int = 1
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class AskArguments:
    """Ask a model all that some data ask about pictures, and say how often it is right.

    Attributes:
        checkpoint: Of a vision-language model, or of a policy that has one of ours.
        data: Dialogues, questions or captions about pictures, as a training takes them.
        most_documents: Of the data, the first ones, at most.
        max_new_tokens: Tokens of an answer, at most.
        device: cpu, cuda or cuda:N.
        json: Print JSON.
    """

    checkpoint: tyro.conf.Positional[Path]
    data: str
    most_documents: int | None = None
    max_new_tokens: int = 48
    device: str = "cpu"
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def run_verb(verb: str, arguments: Sequence[str]) -> None:
    """Raises VerbError for whatever the user can do something about."""
    try:
        _VERBS[verb](arguments)
    except (ConfigurationError, DataError, RunError, CheckpointError) as error:
        raise VerbError.of(error, 2) from error
    except TrainingInterruptedError as error:
        raise VerbError.of(error, 130) from error
    except (TrainingDivergedError, RankLostError, OSError) as error:
        raise VerbError.of(error, 1) from error


def _train(arguments: Sequence[str]) -> None:
    recipe, options = _recipe_of("train", arguments)
    parsed = _parse_run("train", recipe, options, tyro.MISSING)
    if not parsed.config.data:
        what = "text"
        if isinstance(parsed.config, PolicyConfig):
            what = "the folder of demonstrations"
        raise VerbError(f"train: --data: give {what}", 2)
    asked = _named_fields(options)
    print(train(parsed.config, parsed.output, asked, tracker=parsed.tracker))


def _show(arguments: Sequence[str]) -> None:
    recipe, options = _recipe_of("show", arguments)
    # Nothing is written there.
    parsed = _parse_run("show", recipe, options, Path())
    config = shaped_like_its_beginning(resolve(parsed.config), None, _named_fields(options))
    print(config_to_json(config), end="")


def _list(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print("usage: trainer list\n\nSay which recipes there are.\n\nexample: trainer list")
        return
    if arguments:
        raise VerbError(f"list: expected no arguments, got {' '.join(arguments)!r}", 2)
    width = max(map(len, RECIPES))
    for name in RECIPES:
        kind = find_recipe(name).kind
        print(f"{name:<{width}}  {kind:<8}  {summary(name)}")


def _recipe_of(verb: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe's name or file, and the options after it."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    if {"-h", "--help"} & set(arguments):
        return next(iter(RECIPES)), list(arguments)
    raise VerbError(f"{verb}: first a recipe ({', '.join(RECIPES)}) or the config.json of a run", 2)


def _named_fields(options: Sequence[str]) -> set[str]:
    """Those that options name: `model.image_size` of `--model.image-size 48`."""
    words = (word[2:].partition("=")[0] for word in options if word.startswith("--"))
    names = {word.replace("-", "_") for word in words}
    # A flag may be said in the negative.
    return names | {name.replace(".no_", ".") for name in names}


def _parse_run(
    verb: str, recipe: str, options: Sequence[str], output: Any
) -> (
    PolicyTrainArguments
    | LanguageTrainArguments
    | VisionLanguageTrainArguments
    | VisionLanguageActionTrainArguments
):
    """A recipe with what the options change of it."""
    what = "Train, or resume a training." if verb == "train" else "Print a recipe, resolved."
    data = "--data demos/PickAndPlaceBox" if verb == "train" else "--num-steps 300"
    output_option = " --output runs/box" if verb == "train" else ""
    words: dict[str, Any] = {
        "program": f"trainer {verb} {recipe}",
        "description": (
            f"{what} Recipes: {', '.join(RECIPES)}; or the path of a run's config.json, for the "
            f"same again.\n\nexample: trainer {verb} pick_and_place_box {data}{output_option} "
            "--optimizer.learning-rate 3e-4"
        ),
    }
    config = _starting_config(recipe)
    if isinstance(config, TrainConfig):
        policy = PolicyTrainArguments(output=output, config=config)
        return _parse(PolicyTrainArguments, options, default=policy, **words)
    if isinstance(config, VisionLanguageActionTrainConfig):
        acting = VisionLanguageActionTrainArguments(output=output, config=config)
        return _parse(VisionLanguageActionTrainArguments, options, default=acting, **words)
    if isinstance(config, VisionLanguageTrainConfig):
        seeing = VisionLanguageTrainArguments(output=output, config=config)
        return _parse(VisionLanguageTrainArguments, options, default=seeing, **words)
    language = LanguageTrainArguments(output=output, config=config)
    return _parse(LanguageTrainArguments, options, default=language, **words)


def _starting_config(recipe: str) -> RunConfig:
    """Of a recipe's name, or of the config.json of a run."""
    if not recipe.endswith(".json"):
        return find_recipe(recipe)
    try:
        return config_from_json(Path(recipe).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise VerbError(f"{recipe}: cannot be read: {error}", 2) from error


def _sample(arguments: Sequence[str]) -> None:
    parsed = _parse(
        SampleArguments,
        arguments,
        program="trainer sample",
        description="Let a language model go on from a prompt.\n\n"
        'example: trainer sample runs/lm/checkpoints/final "The robot" --temperature 0.5',
        default=None,
    )
    drawn = GenerationConfig(
        max_new_tokens=parsed.max_new_tokens,
        temperature=parsed.temperature,
        top_k=parsed.top_k,
        top_p=parsed.top_p,
    )
    if parsed.num_samples < 1:
        raise VerbError(f"sample: --num-samples: expected 1 or more, got {parsed.num_samples}", 2)
    say = _speaker(parsed)
    for number in range(parsed.num_samples):
        text = say(replace(drawn, seed=parsed.seed + number))
        print("".join(each if each in "\n\t" else printable(each) for each in text))


def _speaker(arguments: SampleArguments) -> Callable[[GenerationConfig], str]:
    """What the model says to the prompt."""
    path = arguments.checkpoint
    if checkpoint_kind(path) in SPEAKING_KINDS:
        speaker = _moved_speaker(path, "sample", arguments.device)
        images = [] if arguments.image is None else [arguments.image.read_bytes()]
        return lambda drawn: speaker.answer(arguments.prompt, images, drawn)
    checkpoint = read_language_checkpoint(path)
    if arguments.image is not None:
        raise VerbError(f"sample: --image: {path} is a language model, which sees nothing", 2)
    vocabulary = Vocabulary.of(checkpoint.build_tokenizer())
    model = _moved(checkpoint.build_model(), "sample", arguments.device)
    prompt = arguments.prompt
    return lambda drawn: prompt + continuation(model, vocabulary, prompt, drawn)


def _moved(model: _Module, verb: str, device: str) -> _Module:
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise VerbError(f"{verb}: --device {device}: {reason}", 2) from error


def _moved_speaker(path: Path, verb: str, device: str) -> Speaker:
    speaker = read_speaker(path)
    return replace(speaker, model=_moved(speaker.model, verb, device))


def _ask(arguments: Sequence[str]) -> None:
    parsed = _parse(
        AskArguments,
        arguments,
        program="trainer ask",
        description="Ask a model all that some data ask about pictures, and say how often it is "
        "right.\n\nexample: trainer ask runs/vla/checkpoints/final --data scenes_held_out",
        default=None,
    )
    speaker = _moved_speaker(parsed.checkpoint, "ask", parsed.device)
    drawn = GenerationConfig(max_new_tokens=parsed.max_new_tokens, temperature=0.0)
    documents = islice(open_source(parsed.data), parsed.most_documents)
    shown = tqdm(questions_of(documents), desc="asked", unit="question", disable=None, leave=False)
    found = scores(shown, lambda one: speaker.answer(one.text, one.images, drawn))
    if not found:
        raise VerbError(f"ask: {parsed.data}: expected questions about pictures, got none", 2)
    if parsed.json:
        facts = {"checkpoint": str(parsed.checkpoint), "data": parsed.data}
        print(json.dumps({**facts, "kinds": [asdict(one) for one in found]}, indent=2))
        return
    width = max(len("question"), *(len(one.kind) for one in found))
    print(f"{'question':<{width}}  asked  right         numbers off by")
    for one in found:
        off = "" if one.median_off is None else f"{one.median_off:.1f} (median)"
        rate = one.num_right / one.num_questions
        row = f"{one.kind:<{width}}  {one.num_questions:5}  {one.num_right:5} {rate:6.1%}  {off}"
        print(printable(row.rstrip()))


def _inspect(arguments: Sequence[str]) -> None:
    parsed = _parse(
        InspectArguments,
        arguments,
        program="trainer inspect",
        description="Say what a checkpoint is, after verifying every file of it.\n\n"
        "example: trainer inspect runs/box/checkpoints/final",
        default=None,
    )
    kind = checkpoint_kind(parsed.checkpoint)
    if kind == LanguageTrainConfig.kind:
        facts = describe_language_checkpoint(read_language_checkpoint(parsed.checkpoint))
    elif kind == VisionLanguageTrainConfig.kind:
        seeing = read_vision_language_checkpoint(parsed.checkpoint)
        facts = describe_language_checkpoint(seeing)
        facts["tokens_per_image"] = seeing.config.tokens_per_image
        facts["init"] = seeing.provenance.get("init") or None
    else:
        facts = describe_checkpoint(read_checkpoint(parsed.checkpoint))
    if parsed.json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(printable(f"{name.replace('_', ' '):<{width}}  {_in_words(value)}"))


def _identity(checkpoint: Checkpoint | LanguageCheckpoint[Any]) -> dict[str, Any]:
    return {
        "name": checkpoint.config.name,
        "kind": checkpoint.config.kind,
        "sha256": checkpoint.digest,
        "optimizer_step": checkpoint.provenance.get("optimizer_step"),
        "total_steps": checkpoint.provenance.get("total_steps"),
    }


def _origin(checkpoint: Checkpoint | LanguageCheckpoint[Any]) -> dict[str, Any]:
    return {
        "data_sha256": checkpoint.provenance.get("data_sha256"),
        "seed": checkpoint.provenance.get("seed"),
        "created": checkpoint.provenance.get("created"),
        "training_s": checkpoint.provenance.get("training_s"),
        "git_sha": checkpoint.provenance.get("git_sha"),
        "git_dirty": checkpoint.provenance.get("git_dirty"),
        "versions": checkpoint.provenance.get("versions"),
    }


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The facts that `trainer inspect` prints."""
    provenance, config, contract = checkpoint.provenance, checkpoint.config, checkpoint.contract
    return {
        **_identity(checkpoint),
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
        **_origin(checkpoint),
    }


def describe_language_checkpoint(checkpoint: LanguageCheckpoint[Any]) -> dict[str, Any]:
    """The facts that `trainer inspect` prints of a model of text."""
    provenance, config = checkpoint.provenance, checkpoint.config
    model, shape = config.language, config.language.transformer
    return {
        **_identity(checkpoint),
        "held_out": provenance.get("held_out"),
        "shape": {"width": shape.width, "depth": shape.depth, "heads": shape.num_heads},
        "context_length": model.context_length,
        "vocabulary_size": model.vocabulary_size,
        "tokenizer_vocabulary_size": checkpoint.build_tokenizer().vocabulary_size,
        "num_parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
        "weights_format": config.weights_format,
        "num_bytes": checkpoint.num_bytes,
        "data": provenance.get("data"),
        "num_documents": provenance.get("num_documents"),
        "num_tokens_of_data": provenance.get("num_tokens_of_data"),
        **_origin(checkpoint),
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
            lambda: tyro.cli(
                kind,
                args=arguments,
                prog=program,
                description=description,
                # Which of several kinds a part is, the recipe says.
                config=(tyro.conf.AvoidSubcommands,),
                **options,
            )
        )
    except UsageError as error:
        raise VerbError(f"{error}; see {program} --help", 2) from error


_VERBS: Mapping[str, Callable[[Sequence[str]], None]] = MappingProxyType(
    {
        "train": _train,
        "list": _list,
        "show": _show,
        "sample": _sample,
        "ask": _ask,
        "inspect": _inspect,
    }
)
