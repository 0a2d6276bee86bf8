"""What `policy-server serve TARGET` serves: a checkpoint, a scripted policy, or a user's class."""

from __future__ import annotations

import difflib
import importlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policy_interface.demonstration import DemonstrationError
from policy_interface.types import InvalidValueError
from policy_server.policy import InvalidPolicyError, Policy, require_policy
from policy_server.scripted_policies import (
    WAVE_PERIOD_STEPS,
    HoldPolicy,
    NullPolicy,
    ReplayPolicy,
    SleepPolicy,
    WavePolicy,
)

# What each scripted policy is written as.
_SCRIPTED = {
    "hold": "hold",
    "wave": "wave",
    "null": "null or null:CHUNK_LENGTH, such as null:8",
    "sleep": "sleep:MS or sleep:MS:CHUNK_LENGTH, such as sleep:20 or sleep:20:8",
    "replay": "replay:EPISODE, a recorded demonstration's .npz file",
}
_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.*)", re.DOTALL)

_MAX_CHUNK_LENGTH = 10_000
_MAX_SLEEP_MS = 60_000.0


class TargetError(ValueError):
    """A target that is none: no such folder, a broken checkpoint, no such class."""


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """How to load the policy.

    device: where a checkpoint runs, as torch names it; None takes the CPU.
    num_flow_steps: a checkpoint's denoising steps a chunk; None takes its own.
    num_threads: torch's threads on the CPU; None takes one for a checkpoint.
    open_loop_steps: actions executed before planning again; None takes the policy's own.
    precision: what a checkpoint computes in.
    compile: compile a checkpoint's network.
    batch_invariant: an episode's actions are the same to the bit whatever else is in its batch;
        None takes True on the CPU, False on CUDA.
    max_batch_size: the most episodes in one forward pass, for which a checkpoint is warmed up.
    guided: warm up guided plans, too: real-time chunking will ask for them.
    """

    device: str | None = None
    num_flow_steps: int | None = None
    num_threads: int | None = None
    open_loop_steps: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    batch_invariant: bool | None = None
    max_batch_size: int = 16
    guided: bool = False

    def __post_init__(self) -> None:
        for option in ("num_flow_steps", "num_threads", "open_loop_steps", "max_batch_size"):
            value = getattr(self, option)
            if value is not None and value < 1:
                flag = option.replace("_", "-")
                raise TargetError(f"--{flag}: expected at least 1, got {value}")
        if self.precision not in ("float32", "bfloat16"):
            raise TargetError(f"--precision: expected float32 or bfloat16, got {self.precision!r}")

    def for_checkpoints(self) -> list[str]:
        """The flags given that only a checkpoint knows what to do with."""
        is_given = {
            "--device": self.device is not None,
            "--num-flow-steps": self.num_flow_steps is not None,
            "--precision": self.precision != "float32",
            "--compile": self.compile,
            "--batch-invariant": self.batch_invariant is not None,
        }
        return [flag for flag, given in is_given.items() if given]


def parse_named_target(text: str) -> tuple[str | None, str]:
    """From `NAME=TARGET` or a bare `TARGET`, the name being None then.

    What exists as a path is a target, even with `=` in it. Raises TargetError.
    """
    named = _NAMED.fullmatch(text)
    if named is None or Path(text).exists():
        return None, text
    name, target = named.groups()
    if not target:
        raise TargetError(f"{text}: expected NAME=TARGET, got no target after the name")
    return name, target


def resolve(target: str, options: TargetOptions) -> Callable[[], Policy]:
    """How to make the policy. Quick: whatever takes long is left to the call of the result.

    Raises TargetError, and so does the result.
    """
    kind, *arguments = target.split(":")
    is_scripted = kind in _SCRIPTED
    path = Path(target)
    if not is_scripted and path.is_dir():
        return lambda: _load_checkpoint(path, options)
    if flags := options.for_checkpoints():
        raise TargetError(f"{target}: {flags[0]} is for checkpoints, and this is no folder")
    if is_scripted:
        return _scripted(target, kind, arguments, options)
    if _IMPORT_STRING.fullmatch(target):
        return lambda: _make(target, options)
    what = "is not a folder" if path.exists() else "no such folder"
    close = difflib.get_close_matches(kind, _SCRIPTED, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise TargetError(
        f"{target}: {what}{hint}; expected a checkpoint's folder, hold, wave, null, sleep:MS, "
        "replay:EPISODE or MODULE:CLASS"
    )


def _scripted(
    target: str, kind: str, arguments: Sequence[str], options: TargetOptions
) -> Callable[[], Policy]:
    match kind, arguments:
        case "hold", []:
            return HoldPolicy
        case "wave", []:
            return lambda: WavePolicy(period_steps=options.open_loop_steps or WAVE_PERIOD_STEPS)
        case "null", [] | [_]:
            chunk_length = _chunk_length(target, arguments)
            return lambda: NullPolicy(chunk_length=chunk_length)
        case "sleep", [milliseconds] | [milliseconds, _]:
            sleep_ms = _sleep_ms(target, milliseconds)
            chunk_length = _chunk_length(target, arguments[1:])
            return lambda: SleepPolicy(sleep_ms=sleep_ms, chunk_length=chunk_length)
        case "replay", [_, *_] if arguments != [""]:
            # A path may hold colons.
            path = Path(":".join(arguments))
            return lambda: _load_recording(path)
    raise TargetError(f"{target}: expected {_SCRIPTED[kind]}")


def _chunk_length(target: str, arguments: Sequence[str]) -> int:
    if not arguments:
        return 1
    (text,) = arguments
    chunk_length = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= chunk_length <= _MAX_CHUNK_LENGTH:
        raise TargetError(
            f"{target}: expected a chunk of 1 to {_MAX_CHUNK_LENGTH} actions, got {text!r}"
        )
    return chunk_length


def _sleep_ms(target: str, text: str) -> float:
    try:
        sleep_ms = float(text)
    except ValueError:
        sleep_ms = math.nan
    if not 0 <= sleep_ms <= _MAX_SLEEP_MS:
        raise TargetError(
            f"{target}: expected 0 to {_MAX_SLEEP_MS:g} milliseconds to sleep, got {text!r}"
        )
    return sleep_ms


def _load_recording(path: Path) -> Policy:
    if not path.is_file():
        what = "is not a file" if path.exists() else "no such file"
        raise TargetError(f"{path}: {what}; expected a recorded demonstration (.npz)")
    try:
        return ReplayPolicy.of(path)
    except DemonstrationError as error:
        raise TargetError(" ".join(str(error).split())) from error
    except InvalidValueError as error:
        raise TargetError(f"{path}: not a demonstration that can be replayed: {error}") from error


def _load_checkpoint(path: Path, options: TargetOptions) -> Policy:
    # torch takes seconds to import, which a scripted policy need not wait for.
    import torch

    from trainer.checkpoint import CheckpointError
    from trainer.policy_loading import CompileError, load_policy

    # torch's own choice is all cores, where its threads wait on one another for whatever the
    # simulators beside it leave: a plan of 0.1 s was seen to take 3 s.
    torch.set_num_threads(options.num_threads or 1)
    try:
        device = torch.device(options.device or "cpu")
    except RuntimeError as error:
        raise TargetError(
            f"--device: expected cpu, cuda or cuda:N, got {options.device!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TargetError("--device cuda: torch sees no CUDA device here; use --device cpu")
    try:
        policy = load_policy(
            path,
            device=str(device),
            num_flow_steps=options.num_flow_steps,
            batch_invariant=options.batch_invariant,
            precision=options.precision,
            compile=options.compile,
        )
        policy.warm_up(sorted({1, options.max_batch_size}), guided=options.guided)
    except CheckpointError as error:
        raise TargetError(str(error)) from error
    except CompileError as error:
        raise TargetError(f"--compile: {error}") from error
    return policy


def _make(target: str, options: TargetOptions) -> Policy:
    """An instance of the class that MODULE:CLASS names, made without arguments."""
    module_name, class_name = target.split(":")
    # A console script has its own folder at the head of the path, not the user's.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TargetError(
            f"{target}: cannot import {module_name}: {error}; it is looked for in the working "
            "folder and among the installed packages"
        ) from error
    factory = getattr(module, class_name, None)
    if not callable(factory):
        close = difflib.get_close_matches(class_name, dir(module), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise TargetError(f"{target}: module {module_name} has no class {class_name!r}{hint}")
    if options.num_threads is not None and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(options.num_threads)
    policy = factory()
    try:
        require_policy(policy)
    except InvalidPolicyError as error:
        raise TargetError(f"{target}: {error}") from error
    return policy  # type: ignore[return-value]
