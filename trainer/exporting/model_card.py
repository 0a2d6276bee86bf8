"""A checkpoint's model card: what it is, how it was trained, what it was measured to do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from policy_interface.printable import printable
from trainer.checkpoint import Checkpoint
from trainer.exporting.evaluation import Evaluation, TaskResult
from trainer.exporting.markdown import code, escaped, front_matter, in_words, table
from trainer.foundry.configuration import FoundryPolicyConfig
from trainer.language_checkpoint import LanguageCheckpoint
from trainer.policy_configuration import PolicyConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageTrainConfig

LIBRARY = "assay"
_INSTALL = "pip install '.[serve]'  # in Assay's checkout"
_INSTALL_TRAINER = "pip install '.[train]'  # in Assay's checkout"

Rows = list[tuple[str, str]]


def name_of(checkpoint: Checkpoint | LanguageCheckpoint[Any]) -> str:
    """As the server and the reports call it."""
    step = checkpoint.provenance.get("optimizer_step")
    name = checkpoint.config.name
    return name if step is None else f"{name}@{step}"


def policy_card(
    checkpoint: Checkpoint, *, folder: str, license_id: str | None, evaluation: Evaluation | None
) -> str:
    """folder: the repository's name, where the reader will have it."""
    contract, config = checkpoint.contract, checkpoint.config
    is_told = isinstance(config, VisionLanguageActionTrainConfig | FoundryPolicyConfig)
    what = "vision-language-action" if is_told else "imitation-learning"
    how = "action-tokens" if checkpoint.action_tokenizer else "flow-matching"
    head = _head("robotics", ["robotics", what, how], license_id)
    if evaluation is not None:
        head["model-index"] = [_model_index(checkpoint, evaluation)]
    told = " and an instruction" if is_told else ""
    cameras = len(contract.cameras)
    if checkpoint.action_tokenizer:
        network = (
            "A vision-language model reads the pictures and the instruction as one prompt, and "
            "tells chunks of actions in words of their own, one after another."
        )
    elif is_told:
        network = (
            "A vision-language model reads the pictures and the instruction as one prompt, and an "
            "expert makes chunks of actions by flow matching."
        )
    else:
        network = (
            "A convolutional encoder for each camera and a transformer make chunks of actions by "
            "flow matching."
        )
    return _document(
        front_matter(head),
        [
            f"# {escaped(name_of(checkpoint))}",
            "",
            f"A robot policy: from {cameras} {'camera' if cameras == 1 else 'cameras'}, what the "
            f"robot measures of itself{told} to the next {checkpoint.transform.chunk_length} "
            f"poses and gripper widths. {network}",
        ],
        _section("Use", _commands(_INSTALL, folder, f"policy-server serve {shlex.quote(folder)}")),
        _section("What it needs of a station", _table(_station(checkpoint))),
        _section("How it acts", _table(_acting(checkpoint))),
        _section("Training", _table(_policy_training(checkpoint))),
        _section("Evaluation", _evaluation(evaluation)),
        _section("Provenance", _table(_provenance(checkpoint))),
    )


def language_card(
    checkpoint: LanguageCheckpoint[Any], *, folder: str, license_id: str | None
) -> str:
    """Of a language or a vision-language model. folder: as policy_card has it."""
    config, provenance = checkpoint.config, checkpoint.provenance
    sees = isinstance(config, VisionLanguageTrainConfig)
    task = "image-text-to-text" if sees else "text-generation"
    what = "vision-language model" if sees else "language model"
    head = _head(task, [what.replace(" ", "-")], license_id)
    shape = config.language.transformer
    place = shlex.quote(folder)
    sample = f"trainer sample {place} " + (
        "'What is to be seen?' --image picture.jpg" if sees else "'The robot'"
    )
    facts: Rows = [
        ("parameters", _num_parameters(checkpoint)),
        ("width, depth, heads", f"{shape.width}, {shape.depth}, {shape.num_heads}"),
        ("context", f"{config.language.context_length} tokens"),
        ("vocabulary", f"{config.language.vocabulary_size} tokens"),
    ]
    if sees:
        facts.append(("tokens an image", f"{config.tokens_per_image}"))
    training: Rows = [
        ("documents", in_words(provenance.get("num_documents"))),
        ("tokens of the data", in_words(provenance.get("num_tokens_of_data"))),
        ("optimizer steps", _steps(provenance)),
        ("sequences a step", f"{config.batch_size}"),
        ("held-out loss and perplexity", in_words(provenance.get("held_out"))),
        ("held-out documents", in_words(provenance.get("num_held_out_documents"))),
    ]
    begins = "trainer train tiny_vla" if sees else "trainer train tiny_vlm"
    return _document(
        front_matter(head),
        [
            f"# {escaped(name_of(checkpoint))}",
            "",
            f"A {what}, made to be the beginning of a robot policy: "
            f"`{begins} --init FOLDER` goes on from it.",
        ],
        _section("Use", _commands(_INSTALL_TRAINER, folder, sample)),
        _section("What it is", _table(facts)),
        _section("Training", _table(training + _run(provenance))),
        _section("Provenance", _table(_provenance(checkpoint))),
    )


def _head(task: str, tags: list[str], license_id: str | None) -> dict[str, Any]:
    head: dict[str, Any] = {} if license_id is None else {"license": license_id}
    return head | {"library_name": LIBRARY, "pipeline_tag": task, "tags": [*tags, "safetensors"]}


def _model_index(checkpoint: Checkpoint, evaluation: Evaluation) -> dict[str, Any]:
    simulator = evaluation.setting.get("simulator", "unknown")
    return {
        "name": name_of(checkpoint),
        "results": [
            {
                "task": {"type": "robotics", "name": each.task},
                "dataset": {"type": f"simulation-{simulator}", "name": _where(evaluation)},
                "metrics": [
                    {
                        "type": "success_rate",
                        "value": round(each.successes / each.num_episodes, 6),
                        "name": f"success rate, {each.successes} of {each.num_episodes} episodes, "
                        f"{_interval(each, evaluation)}",
                    }
                ],
            }
            for each in evaluation.tasks
            if each.num_episodes
        ],
    }


def _station(checkpoint: Checkpoint) -> Rows:
    contract = checkpoint.contract
    is_told = contract.uses_language
    return [
        *((f"camera {code(name)}", f"{size} pixels") for name, size in contract.cameras.items()),
        ("arms", ", ".join(map(code, contract.arms))),
        ("grippers", ", ".join(map(code, contract.grippers)) or "none"),
        ("frame of poses", code(contract.frame)),
        ("end effector", code(contract.end_effector)),
        ("gripper widths in", escaped(contract.gripper_unit)),
        ("control rate", f"{contract.control_rate_hz:g} Hz"),
        ("instruction", "needed" if is_told else "not heeded"),
    ]


def _acting(checkpoint: Checkpoint) -> Rows:
    config, words = checkpoint.config, checkpoint.action_tokenizer
    return [
        ("actions a chunk", f"{checkpoint.transform.chunk_length}"),
        ("executed before it plans again", f"{config.serving.open_loop_steps}"),
        ("flow steps a chunk", f"{config.serving.num_flow_steps}")
        if words is None
        else ("words a chunk, at most", f"{words.most_words}"),
        ("parameters", _num_parameters(checkpoint)),
    ]


def _policy_training(checkpoint: Checkpoint) -> Rows:
    told, config = checkpoint.provenance, checkpoint.config
    if not isinstance(config, PolicyConfig):
        return [
            ("trained by", "VLA Foundry"),
            ("imported from", in_words(told.get("imported_from"))),
        ]
    return [
        ("tasks", in_words(told.get("tasks"))),
        ("demonstrations", in_words(told.get("num_episodes"))),
        ("of them trained on", in_words(told.get("num_training_episodes"))),
        ("frames", in_words(told.get("num_frames"))),
        ("optimizer steps", _steps(told)),
        ("windows a step", f"{config.batch_size}"),
        ("error on held-out demonstrations", _error(told.get("held_out_action_error"))),
        *_run(told),
    ]


def _run(told: Mapping[str, Any]) -> Rows:
    seconds = told.get("training_s")
    return [
        ("seed", in_words(told.get("seed"))),
        ("time of training", "unknown" if seconds is None else f"{in_words(seconds)} s"),
    ]


def _provenance(checkpoint: Checkpoint | LanguageCheckpoint[Any]) -> Rows:
    told = checkpoint.provenance
    git_sha = told.get("git_sha")
    dirty = " with changes" if told.get("git_dirty") else ""
    return [
        ("checkpoint (SHA-256 of its manifest)", code(checkpoint.digest or "unknown")),
        ("data (SHA-256)", code(str(told.get("data_sha256") or "unknown"))),
        ("made", in_words(told.get("created"))),
        ("code (git)", "unknown" if git_sha is None else code(str(git_sha)) + dirty),
        ("versions", in_words(told.get("versions"))),
        *([("begun with", in_words(told["init"]))] if told.get("init") else []),
    ]


def _evaluation(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return ["None was given with this checkpoint."]
    rows = [
        (
            escaped(each.task),
            f"{each.successes}",
            f"{each.num_episodes}",
            _interval(each, evaluation) if each.interval else "none",
            f"{each.num_errors}",
            in_words(each.num_missing),
        )
        for each in evaluation.tasks
    ]
    head = ("task", "successes", "episodes", "success rate", "errors", "missing")
    of_what = (
        "Of this very checkpoint, by its digest."
        if evaluation.has_digest
        else "Of a policy of this name; the evaluation does not tell the checkpoint's digest."
    )
    return [
        f"In {escaped(_where(evaluation))}. {of_what}",
        "",
        *table(head, rows),
        "",
        "Errors are episodes that could not be run, and missing ones were planned; neither counts.",
    ]


def _where(evaluation: Evaluation) -> str:
    """What it ran in, in words."""
    told = dict(evaluation.setting)
    simulator = told.pop("simulator", None)
    place = "an unnamed simulation" if simulator is None else f"the simulation {simulator}"
    return ", ".join([place, *(f"{name} {value}" for name, value in told.items())])


def _interval(result: TaskResult, evaluation: Evaluation) -> str:
    if result.interval is None:
        return "no interval"
    low, high = result.interval
    rate = result.successes / result.num_episodes if result.num_episodes else 0.0
    return (
        f"{100 * rate:.1f} % ({100 * low:.1f} to {100 * high:.1f} %, {evaluation.interval} "
        f"{100 * evaluation.confidence:g} %)"
    )


def _error(measured: object) -> str:
    """Of fields whose names end with their units."""
    if not isinstance(measured, Mapping):
        return "not measured" if measured is None else in_words(measured)
    parts = [(str(name).rpartition("_"), value) for name, value in measured.items()]
    return ", ".join(
        f"{escaped(what)} {in_words(value)} {escaped(unit)}" for (what, _, unit), value in parts
    )


def _num_parameters(checkpoint: Checkpoint | LanguageCheckpoint[Any]) -> str:
    count = sum(tensor.numel() for tensor in checkpoint.weights.values())
    return f"{count:,}, as {checkpoint.config.weights_format}"


def _steps(provenance: Mapping[str, Any]) -> str:
    done, total = provenance.get("optimizer_step"), provenance.get("total_steps")
    return in_words(done) if done == total else f"{in_words(done)} of {in_words(total)}"


def _commands(install: str, folder: str, command: str) -> list[str]:
    place = shlex.quote(folder)
    fetch = f"hf download OWNER/{place} --local-dir {place}"
    return [f"    {printable(line)}" for line in (install, fetch, command)]


def _table(rows: Rows) -> list[str]:
    return table(("", ""), rows)


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines]


def _document(*parts: list[str]) -> str:
    return "\n\n".join("\n".join(part) for part in parts) + "\n"
