"""What `policy-server serve TARGET` serves: a checkpoint, a scripted policy, or a user's class."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policy_server.policy import InvalidPolicyError, Policy, require_policy
from policy_server.scripted_policies import WAVE_PERIOD_STEPS, HoldPolicy, WavePolicy

_SCRIPTED = ("hold", "wave")
_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class TargetError(ValueError):
    """A target that is none: no such folder, a broken checkpoint, no such class."""


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """How to load the policy.

    device: where a checkpoint runs, as torch names it; None takes the CPU.
    num_flow_steps: a checkpoint's denoising steps a chunk; None takes its own.
    num_threads: torch's threads on the CPU; None takes one for a checkpoint.
    open_loop_steps: actions executed before planning again; None takes the policy's own.
    """

    device: str | None = None
    num_flow_steps: int | None = None
    num_threads: int | None = None
    open_loop_steps: int | None = None

    def __post_init__(self) -> None:
        for option in ("num_flow_steps", "num_threads", "open_loop_steps"):
            value = getattr(self, option)
            if value is not None and value < 1:
                flag = option.replace("_", "-")
                raise TargetError(f"--{flag}: expected at least 1, got {value}")


def resolve(target: str, options: TargetOptions) -> Callable[[], Policy]:
    """How to make the policy. Quick: whatever takes long is left to the call of the result.

    Raises TargetError, and so does the result.
    """
    path = Path(target)
    if target not in _SCRIPTED and path.is_dir():
        return lambda: _load_checkpoint(path, options)
    for flag, value in (("--device", options.device), ("--num-flow-steps", options.num_flow_steps)):
        if value is not None:
            raise TargetError(f"{target}: {flag} is for checkpoints, and this is no folder")
    if target == "hold":
        return HoldPolicy
    if target == "wave":
        return lambda: WavePolicy(period_steps=options.open_loop_steps or WAVE_PERIOD_STEPS)
    if _IMPORT_STRING.fullmatch(target):
        return lambda: _make(target, options)
    what = "is not a folder" if path.exists() else "no such folder"
    close = difflib.get_close_matches(target, _SCRIPTED, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise TargetError(
        f"{target}: {what}{hint}; expected a checkpoint's folder, hold, wave or MODULE:CLASS"
    )


def _load_checkpoint(path: Path, options: TargetOptions) -> Policy:
    # torch takes seconds to import, which a scripted policy need not wait for.
    import torch

    from trainer.checkpoint import CheckpointError
    from trainer.inference import load_policy

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
        return load_policy(path, device=str(device), num_flow_steps=options.num_flow_steps)
    except CheckpointError as error:
        raise TargetError(str(error)) from error


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
