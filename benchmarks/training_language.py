"""Our language model's forward and backward beside others' of the same shape, on a CPU."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import statistics
import sys
import time
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from policy_interface.allocator import keep_freed_memory
from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.language_model import LanguageModel
from trainer.models.presets import LANGUAGE_PRESETS

Step = Callable[[], object]


def foundry_transformer(checkout: Path, config: LanguageConfig) -> nn.Module:
    """VLA Foundry's own transformer from a checkout, without the packages of its configuration.

    Its network reads plain fields; the modules that parse them from files, and that gather every
    other model, are left out.
    """
    root = checkout / "vla_foundry"
    if not root.is_dir():
        raise SystemExit(f"--foundry: {checkout} holds no folder vla_foundry")
    for name, path in (("vla_foundry", root), ("vla_foundry.models", root / "models")):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module
    for name, contents in (
        ("vla_foundry.params", {}),
        ("vla_foundry.params.model_params", {"ModelParams": object, "TransformerParams": object}),
        ("vla_foundry.model_utils", {"Float32Module": object}),
    ):
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        sys.modules[name] = module
    shape = config.transformer
    parameters = types.SimpleNamespace(
        norm_type="default_layer_norm",
        ffn_type="swiglu",
        qk_norm=False,
        positional_embedding_type="rotary",
        attn_name="torch_attn",
        post_embed_norm=config.post_embed_norm,
        norm_eps=shape.norm_epsilon,
        weight_tying=config.tied_weights,
        cast_output_to_float32=False,
        max_seq_len=config.context_length,
        is_causal=True,
        freeze=False,
        hidden_dim=shape.width,
        n_layers=shape.depth,
        n_heads=shape.num_heads,
        vocab_size=config.vocabulary_size,
    )
    return importlib.import_module("vla_foundry.models.transformer").Transformer(parameters)


def llama(config: LanguageConfig) -> nn.Module:
    """transformers' Llama of the same shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = config.transformer
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=shape.width,
            intermediate_size=shape.hidden_width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.num_heads,
            use_cache=False,
        )
    )


def language_step(name: str, preset: str, arguments: argparse.Namespace) -> Step:
    """Forward and backward of one side's language model."""
    config = LANGUAGE_PRESETS[preset]
    num_samples, length = shape_on_cpu(arguments)
    generator = torch.Generator().manual_seed(0)
    token = torch.randint(config.vocabulary_size, (num_samples, length + 1), generator=generator)
    token, label = token[:, :-1].contiguous(), token[:, 1:].contiguous()
    model: nn.Module
    if name == "ours":
        model = LanguageModel(config)
    else:
        model = llama(config) if name == "llama" else foundry_transformer(arguments.foundry, config)

    @torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bfloat16")
    def loss() -> Tensor:
        if name == "ours":
            return model(token, label_BS=label).loss.loss
        logits = model(input_ids=token).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), label.flatten())

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def shape_on_cpu(arguments: argparse.Namespace) -> tuple[int, int]:
    """Sequences, and tokens of each."""
    return (1, 64) if arguments.tiny else (arguments.samples, arguments.length)


def serve_steps(
    connection: Connection, name: str, preset: str, arguments: argparse.Namespace
) -> None:
    """A process's life: a step for each word that it hears, answered with its CPU seconds."""
    torch.set_num_threads(arguments.num_threads)
    if name == "ours" and not arguments.plain_memory:
        # As `trainer train` does; the other trainers leave the C library as it is.
        keep_freed_memory()
    step = language_step(name, preset, arguments)
    while connection.recv():
        start = time.process_time()
        step()
        connection.send(time.process_time() - start)


def language_on_cpu(preset: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Tokens a CPU second, forward and backward, beside others', each in a process of its own."""
    names = ["ours", "llama", *(["foundry"] if arguments.foundry else [])]
    spawn = multiprocessing.get_context("spawn")
    taken: dict[str, list[float]] = {name: [] for name in names}
    connections = {}
    for name in names:
        connections[name], theirs = spawn.Pipe()
        spawn.Process(
            target=serve_steps, args=(theirs, name, preset, arguments), daemon=True
        ).start()
        theirs.close()
    for turn in range((1 if arguments.tiny else arguments.rounds) + 1):
        for name, connection in connections.items():
            connection.send(True)
            seconds = connection.recv()
            if turn > 0:
                taken[name].append(seconds)
    for connection in connections.values():
        connection.send(False)
    num_samples, length = shape_on_cpu(arguments)
    seconds_of = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {
        "samples": num_samples,
        "length": length,
        "precision": arguments.precision,
        "tokens_per_cpu_s": {k: round(num_samples * length / s, 1) for k, s in seconds_of.items()},
        "times_faster_than": {
            k: round(s / seconds_of["ours"], 3) for k, s in seconds_of.items() if k != "ours"
        },
    }
