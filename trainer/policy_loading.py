"""A checkpoint's directory as a policy that can be asked."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from policy_interface.contract import CHECKPOINT_DIGEST_KEY, CONTRACT_KEY, RUNTIME_PREFIX
from policy_interface.types import PolicyMetadata
from trainer.checkpoint import Checkpoint, CheckpointError, build_reader, read_checkpoint
from trainer.configuration_json import config_to_json
from trainer.inference import Policy, ServingPrecision
from trainer.models.chunk_policy import ChunkPolicy


class CompileError(RuntimeError):
    """torch.compile does not work here."""


def load_policy(
    path: str | Path,
    *,
    device: str = "cpu",
    num_flow_steps: int | None = None,
    batch_invariant: bool | None = None,
    precision: ServingPrecision = "float32",
    compile: bool = False,  # noqa: A002 (the flag's name)
) -> Policy:
    """From a checkpoint's directory alone.

    num_flow_steps: None takes the checkpoint's own.
    batch_invariant: None takes True on a CPU and False elsewhere. Measured on a CPU with the
        shipped checkpoint and one thread, it takes 1.3 times the time for one request, 1.0 to 1.2
        times for two to eight, 1.5 times for sixteen, and once, before the first plan, some
        twenty plans' time. (benchmarks/policy_inference.py)
    compile: by torch.compile; the first plan, made here, takes up to minutes.

    Raises CheckpointError for anything but a whole checkpoint, CompileError where torch.compile
    does not work.
    """
    path = Path(path)
    torch_device = torch.device(device)
    checkpoint = read_checkpoint(path)
    steps = checkpoint.config.serving.num_flow_steps if num_flow_steps is None else num_flow_steps
    if steps < 1:
        raise ValueError(f"num_flow_steps: expected at least 1, got {steps}")
    try:
        prompts, network = checkpoint.build_prompts(), checkpoint.build_network()
        reader = build_reader(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if precision == "bfloat16":
        _round_weights(network)
    network = network.to(torch_device)
    policy = Policy(
        contract=checkpoint.contract,
        metadata=_metadata(checkpoint, path, num_flow_steps=steps, precision=precision),
        chunk_length=checkpoint.transform.chunk_length,
        open_loop_steps=checkpoint.config.serving.open_loop_steps,
        num_flow_steps=steps,
        device=torch_device,
        transform=checkpoint.transform,
        network=network,
        reader=reader,
        prompts=prompts,
        solver=checkpoint.config.serving.solver,
        precision=precision,
        batch_invariant=torch_device.type == "cpu" if batch_invariant is None else batch_invariant,
    )
    if compile:
        _compile(policy)
    return policy


def _round_weights(network: ChunkPolicy) -> None:
    """Those of products, which autocast would otherwise round anew in each of them."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(torch.bfloat16)


def _compile(policy: Policy) -> None:
    policy.network.compile_parts()
    try:
        policy.warm_up()
    except RuntimeError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CompileError(
            f"torch.compile does not work here: {reason}; on a CPU it needs a C++ compiler (g++), "
            "on CUDA triton; install it, or serve without compilation"
        ) from error


def _metadata(
    checkpoint: Checkpoint, path: Path, *, num_flow_steps: int, precision: ServingPrecision
) -> PolicyMetadata:
    provenance = checkpoint.provenance
    step = provenance.get("optimizer_step")
    return PolicyMetadata(
        name=checkpoint.config.name if step is None else f"{checkpoint.config.name}@{step}",
        skill_type=", ".join(provenance.get("tasks", [])) or "Undefined",
        checkpoint_path=str(path),
        git_sha=provenance.get("git_sha") or "",
        raw_policy_config=config_to_json(checkpoint.config),
        is_language_conditioned=checkpoint.contract.uses_language,
        runtime_information={
            CONTRACT_KEY: checkpoint.contract.to_json(),
            CHECKPOINT_DIGEST_KEY: checkpoint.digest or "",
            f"{RUNTIME_PREFIX}num_flow_steps": str(num_flow_steps),
            f"{RUNTIME_PREFIX}precision": precision,
        },
    )
