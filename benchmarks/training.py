"""How fast the trainer's models are, beside others of the same shape. Prints one line of JSON.

    python benchmarks/training.py                              # on a CPU: seconds of CPU, ratios
    python benchmarks/training.py --foundry ~/vla_foundry      # beside VLA Foundry's too
    python benchmarks/training.py --device cuda                # MFU, memory, latency
    python benchmarks/training.py --device cuda --tiny         # the same paths, in seconds

All that is compared is timed in turns in one run. It needs torch and transformers and no more.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from training_language import Step, language_on_cpu

from trainer.models.action.configuration import (
    ActionSpaceConfig,
    FlowConfig,
    ObservationTokenConfig,
)
from trainer.models.backbone import VisionLanguageInput
from trainer.models.captured_sampler import CapturedSampler
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.language.cross_entropy import next_token_labels
from trainer.models.language.language_model import LanguageModel
from trainer.models.language.masks import AttentionMask
from trainer.models.presets import (
    LANGUAGE_PRESETS,
    VISION_LANGUAGE_ACTION_PRESETS,
    VISION_LANGUAGE_PRESETS,
)
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language import VisionLanguageConfig
from trainer.models.vision_language_action import (
    ActionBatch,
    VisionLanguageAction,
    VisionLanguageActionConfig,
)

_PARTS = {
    "cpu": ("language_11m", "language_100m", "action_repeats"),
    "cuda": ("language_1b", "language_1b_packed", "qwen3_vl_2b_vla", "inference_1.7b_vla"),
}


def cpu_seconds(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, taken in turns: a shared machine slows all of them alike."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if turn > 0:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def gpu_seconds(step: Step, *, warm_up: int, rounds: int) -> float:
    """Median seconds between events of the GPU."""
    for _ in range(warm_up):
        step()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(events))


def repeats_on_cpu(arguments: argparse.Namespace) -> dict[str, object]:
    """A step with eight draws for each observation, and eight steps with one."""
    space = ActionSpaceConfig(action_size=20, chunk_length=16)
    vision = VisionTransformerConfig(
        width=192, depth=4, num_heads=3, feed_forward_width=768, patch_size=14, shuffle_factor=2
    )
    language = LANGUAGE_PRESETS["tiny" if arguments.tiny else "11m"]
    config = VisionLanguageActionConfig(
        backbone=VisionLanguageConfig(
            language=language, vision=vision, image_token=language.vocabulary_size - 1
        ),
        expert=ObservationTokenConfig(transformer=language.transformer, num_layers=2),
        space=space,
        objective=FlowConfig(repeats=8),
    )
    policy = VisionLanguageAction(config)
    single = VisionLanguageAction(replace(config, objective=FlowConfig(repeats=1)))
    inputs, batch = observations(config, 2, num_images=4, num_words=16, device="cpu")
    generator = torch.Generator().manual_seed(0)

    def step(model: VisionLanguageAction, times: int) -> None:
        for _ in range(times):
            model.zero_grad(set_to_none=True)
            model(batch, generator=generator).backward()

    steps: dict[str, Step] = {
        "r8_once": lambda: step(policy, 1),
        "r1_eight_times": lambda: step(single, 8),
    }
    seconds = cpu_seconds(steps, 1 if arguments.tiny else arguments.rounds)
    return {
        "tokens_of_an_observation": inputs.token_BS.shape[1],
        "cpu_s": {name: round(s, 4) for name, s in seconds.items()},
        "times_the_samples_per_s": round(seconds["r1_eight_times"] / seconds["r8_once"], 2),
    }


def observations(
    config: VisionLanguageActionConfig,
    num_samples: int,
    *,
    num_images: int,
    num_words: int,
    device: str,
) -> tuple[VisionLanguageInput, ActionBatch]:
    """Random images and words of the shapes that a policy is trained on."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    extras: dict[str, Tensor] = {}
    if isinstance(config.backbone, HuggingFaceConfig):
        vision: Any = config.backbone.overrides["vision_config"]
        side = 224 // vision["patch_size"]
        per_image, image_token = side * side // 4, 151_655
        numbers = 3 * 2 * vision["patch_size"] ** 2
        images = normal(num_samples * num_images * side * side, numbers)
        grid = torch.tensor([[1, side, side]] * (num_samples * num_images))
        extras["image_grid_thw"] = grid.to(device)
    else:
        own = config.backbone.vision
        assert isinstance(own, VisionTransformerConfig)
        size = own.image_size
        per_image = own.num_tokens(size, size)
        image_token = config.backbone.image_token
        images = normal(num_samples * num_images, 3, size, size)
    # A word before each image: Qwen takes image tokens that touch for one image.
    row = [5, *[image_token] * per_image] * num_images + [6] * num_words
    token = torch.tensor([row] * num_samples, device=device)
    if extras:
        extras["mm_token_type_ids"] = (token == image_token).int()
    inputs = VisionLanguageInput(token_BS=token, images=images, extras=extras)
    length = config.space.chunk_length
    batch = ActionBatch(
        inputs=inputs,
        chunk_BTA=normal(num_samples, length, config.space.action_size),
        weight_BT=torch.ones(num_samples, length, device=device),
    )
    return inputs, batch


def matmul_peak(size: int) -> float:
    """bf16 FLOP/s of a square product of random matrices."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / gpu_seconds(lambda: a @ b, warm_up=10, rounds=30)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)


def train_step(model: nn.Module, loss: Callable[[], Tensor]) -> Step:
    """Forward in bfloat16, backward, clipping, AdamW on float32 weights."""
    optimizer = optimizer_of(model)
    parameters = list(model.parameters())

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def language_on_gpu(
    arguments: argparse.Namespace, peak: float, *, is_packed: bool
) -> dict[str, object]:
    """MFU of the 1b preset at 2048 tokens: its own products over the measured product's rate.

    `is_packed`: four documents a sequence, kept apart by FlexAttention.
    """
    config = LANGUAGE_PRESETS["11m" if arguments.tiny else "1b"]
    if is_packed:
        config = replace(config, transformer=replace(config.transformer, attention="flex"))
    num_samples, length = (2, 256) if arguments.tiny else (arguments.gpu_samples, 2048)
    with torch.device("cuda"):
        model = LanguageModel(config)
    model.transformer.checkpoint_activations(arguments.checkpoint)
    model.transformer.compile_blocks(dynamic=False)
    token = torch.randint(config.vocabulary_size, (num_samples, length), device="cuda")
    num_documents = 4 if is_packed else 1
    document = (torch.arange(length, device="cuda") * num_documents // length).expand_as(token)
    position = torch.arange(length // num_documents, device="cuda").repeat(num_documents)
    label = next_token_labels(token, document_BS=document)

    def loss() -> Tensor:
        # Made anew each step, as for a batch of other documents.
        mask = AttentionMask(document_BK=document.clone()) if is_packed else None
        return model(token, label_BS=label, mask=mask, position_BS=position[None]).loss.loss

    torch.cuda.reset_peak_memory_stats()
    step = train_step(model, loss)
    seconds = gpu_seconds(step, warm_up=3, rounds=arguments.rounds)
    shape = config.transformer
    in_products = sum(p.numel() for p in model.parameters()) - model.embedding.weight.numel()
    # A position reads half of the others on average; published figures often count all.
    attention = 6 * shape.depth * shape.width * length // num_documents
    per_token = 6 * in_products + attention
    rate = num_samples * length / seconds
    if arguments.profile:
        profile(step, arguments.profile)
    return {
        "samples": num_samples,
        "length": length,
        "step_s": round(seconds, 4),
        "tokens_per_s": round(rate),
        "tflop_per_s": round(rate * per_token / 1e12, 1),
        "mfu": round(rate * per_token / peak, 4),
        "mfu_if_attention_were_not_causal": round(rate * (per_token + attention) / peak, 4),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def qwen_on_gpu(arguments: argparse.Namespace) -> dict[str, object]:
    """A training step of the policy on a Qwen3-VL-2B-shaped backbone, batch 32, 8 images each."""
    config = VISION_LANGUAGE_ACTION_PRESETS["qwen3_vl_2b"]
    num_samples, num_images = (2, 2) if arguments.tiny else (32, 8)
    with torch.device("cuda"):
        policy = VisionLanguageAction(config)
    policy.train()
    policy.checkpoint_activations(arguments.checkpoint)
    if not arguments.eager:
        policy.compile_blocks()
    _, batch = observations(config, num_samples, num_images=num_images, num_words=32, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    torch.cuda.reset_peak_memory_stats()
    step = train_step(policy, lambda: policy(batch, generator=generator))
    seconds = gpu_seconds(step, warm_up=3, rounds=arguments.rounds)
    if arguments.profile:
        profile(step, arguments.profile)
    return {
        "batch": num_samples,
        "images": num_images,
        "tokens_of_an_observation": batch.inputs.token_BS.shape[1],
        "step_s": round(seconds, 4),
        "samples_per_s": round(num_samples / seconds, 1),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def inference_on_gpu(arguments: argparse.Namespace) -> dict[str, object]:
    """One chunk of the 1.7B policy by ten steps, from eight images: weights in bfloat16."""
    config = VISION_LANGUAGE_ACTION_PRESETS["foundry_1.7b"]
    if arguments.tiny:
        config = replace(config, backbone=VISION_LANGUAGE_PRESETS["tiny"])
    with torch.device("cuda"):
        policy = VisionLanguageAction(config)
    policy = policy.bfloat16().eval()
    inputs, batch = observations(config, 1, num_images=8, num_words=32, device="cuda")
    assert inputs.images is not None
    inputs = replace(inputs, images=inputs.images.bfloat16())
    noise = torch.randn_like(batch.chunk_BTA)
    milliseconds: dict[str, float] = {}

    def measure(name: str, sample: Callable[[], Tensor]) -> Tensor:
        chunk = sample()
        milliseconds[name] = 1e3 * gpu_seconds(sample, warm_up=3, rounds=20)
        return chunk

    eager = measure("eager", lambda: policy.sample(inputs, noise))
    captured = CapturedSampler(policy, inputs, noise)
    replayed = measure("cuda_graph", lambda: captured(inputs, noise))
    policy.compile_blocks(dynamic=False)
    captured = CapturedSampler(policy, inputs, noise)
    measure("compiled_cuda_graph", lambda: captured(inputs, noise))
    return {
        "tokens_of_an_observation": inputs.token_BS.shape[1],
        "steps": config.objective.num_steps,
        "ms_per_chunk": {name: round(ms, 2) for name, ms in milliseconds.items()},
        "greatest_difference_of_the_graph": float((eager - replayed).abs().max()),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def profile(step: Step, num_rows: int) -> None:
    """The slowest kernels of one step, on the error stream."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        torch.cuda.synchronize()
    table = profiler.key_averages().table(
        sort_by="self_cuda_time_total", row_limit=num_rows, max_name_column_width=60
    )
    lines = [line[:62] + line[-110:] for line in table.splitlines()]
    print("\n".join(lines), file=sys.stderr)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", help="parts to run, of those that the output names")
    parser.add_argument("--tiny", action="store_true", help="small shapes: does it run at all")
    parser.add_argument("--foundry", type=Path, help="a checkout of VLA Foundry to run beside")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each")
    parser.add_argument("--samples", type=int, default=2, help="sequences a step on a CPU")
    parser.add_argument("--length", type=int, default=512, help="tokens of each on a CPU")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--plain-memory", action="store_true", help="leave the C library as it is on our side too"
    )
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--gpu-samples", type=int, default=16, help="sequences a step on a GPU")
    parser.add_argument("--checkpoint", action="store_true", help="checkpoint activations")
    parser.add_argument("--eager", action="store_true", help="leave Qwen's blocks uncompiled")
    parser.add_argument("--profile", type=int, default=0, help="kernels to print of each step")
    arguments = parser.parse_args()
    parts = _PARTS[arguments.device]
    for name in arguments.only or ():
        if name not in parts:
            close = difflib.get_close_matches(name, parts, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            sys.exit(
                f"{parser.prog}: --only: no part {name!r}{hint}; on {arguments.device} there are "
                f"{', '.join(parts)}"
            )
    return arguments


def main() -> None:
    arguments = parsed()
    torch.manual_seed(0)
    result: dict[str, object] = {"torch": torch.__version__}
    parts: dict[str, Callable[[], object]]
    if arguments.device == "cpu":
        torch.set_num_threads(arguments.num_threads)
        result |= {"device": "cpu", "num_threads": arguments.num_threads}
        parts = {
            "language_11m": lambda: language_on_cpu("11m", arguments),
            "language_100m": lambda: language_on_cpu("100m", arguments),
            "action_repeats": lambda: repeats_on_cpu(arguments),
        }
    else:
        torch.set_float32_matmul_precision("high")
        peak = matmul_peak(1024 if arguments.tiny else 8192)
        result |= {
            "device": torch.cuda.get_device_name(),
            "bf16_matmul_tflop_per_s": round(peak / 1e12, 1),
        }
        parts = {
            "language_1b": lambda: language_on_gpu(arguments, peak, is_packed=False),
            "language_1b_packed": lambda: language_on_gpu(arguments, peak, is_packed=True),
            "qwen3_vl_2b_vla": lambda: qwen_on_gpu(arguments),
            "inference_1.7b_vla": lambda: inference_on_gpu(arguments),
        }
    assert tuple(parts) == _PARTS[arguments.device]
    for name, part in parts.items():
        if arguments.only is None or name in arguments.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            start = time.perf_counter()
            result[name] = part()
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            if arguments.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
