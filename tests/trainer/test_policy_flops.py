"""The products of a policy's training, against those that torch counts as it computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer.small_models import EXPERT, LANGUAGE, TOWER, VISION
from trainer.history_configuration import HistoryConfig
from trainer.models.vision_language_action import ActionBatch, Draws
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.policy_flops import training_flops_per_window
from trainer.vision_language_action_configuration import VisionLanguageActionShape

_CAMERAS, _CHUNK, _SIZE, _WORDS = ("left", "right"), 8, 10, 5
_IMAGE_TOKEN = 3


def shape(**changes: object) -> VisionLanguageActionShape:
    return replace(
        VisionLanguageActionShape(
            language=LANGUAGE, vision=VISION, expert=EXPERT, image_size=32, repeats=1
        ),
        **changes,
    )


def policy(
    of: VisionLanguageActionShape, history: HistoryConfig | None = None
) -> VisionLanguagePolicy:
    return VisionLanguagePolicy(
        of,
        history=history,
        cameras=_CAMERAS,
        chunk_length=_CHUNK,
        action_size=_SIZE,
        image_token=_IMAGE_TOKEN,
    )


def counted_by_torch(network: VisionLanguagePolicy, prompt_S: Tensor, repeats: int) -> int:
    images = {name: torch.zeros(1, 3, 32, 32) for name in network.picture_names}
    space = network.model.config.space
    num_actions = space.chunk_length
    batch = ActionBatch(
        inputs=network.inputs(images, prompt_S[None]),
        chunk_BTA=torch.randn(1, num_actions, _SIZE),
        weight_BT=torch.ones(1, num_actions),
        proprioception_BPQ=torch.randn(1, space.proprioception_steps, _SIZE),
    )
    draws = Draws(torch.randn(repeats, num_actions, _SIZE), torch.rand(repeats))
    # Torch does not count what its fused attention computes on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.model(batch, draws=draws).backward()
    return counter.get_total_flops()


def ours(network: VisionLanguagePolicy, of: VisionLanguageActionShape, length: int) -> float:
    return training_flops_per_window(
        network.model,
        num_images=len(network.picture_names),
        image_size=of.image_size,
        prompt_length=length,
        repeats=of.repeats,
    )


def freeze(prefix: str) -> Callable[[VisionLanguagePolicy], None]:
    def act(network: VisionLanguagePolicy) -> None:
        for name, parameter in network.named_parameters():
            if name.startswith(prefix):
                parameter.requires_grad = False

    return act


@pytest.mark.parametrize("frozen", ["nothing", "model.backbone.vision", "model.backbone"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vision": replace(VISION, stem="convolutions", width=48, num_heads=3, depth=2)},
        {"vision": TOWER},
        {"vision": replace(TOWER, modulated_views=len(_CAMERAS))},
        {"expert": replace(EXPERT, timesteps_per_token=2)},
        {"expert": replace(EXPERT, reads="keys_values")},
        {"expert": replace(EXPERT, reads="observation_token"), "repeats": 3},
    ],
    ids=[
        "layers",
        "convolutions",
        "tower",
        "modulated_tower",
        "pairs_of_actions",
        "keys_values",
        "observation_token",
    ],
)
def test_as_many_as_torch_counts(changes: dict[str, object], frozen: str) -> None:
    of = shape(**changes)
    network = policy(of)
    freeze(frozen)(network)
    length = len(_CAMERAS) * of.tokens_per_image + _WORDS
    prompt_S = torch.tensor([_IMAGE_TOKEN] * (length - _WORDS) + [9] * _WORDS)
    counted = counted_by_torch(network, prompt_S, of.repeats)
    assert ours(network, of, length) == pytest.approx(counted, rel=1e-6)


def test_the_past_counts() -> None:
    of = shape()
    network = policy(of, HistoryConfig(frames=(-1, 0), past_steps=2))
    length = 2 * len(_CAMERAS) * of.tokens_per_image + _WORDS
    prompt_S = torch.tensor([_IMAGE_TOKEN] * (length - _WORDS) + [9] * _WORDS)
    counted = counted_by_torch(network, prompt_S, of.repeats)
    assert ours(network, of, length) == pytest.approx(counted, rel=1e-6)


def test_what_no_token_may_see_does_not_count() -> None:
    """Other draws of the same observation, and in a causal prompt what comes later."""
    one = shape()
    length = len(_CAMERAS) * one.tokens_per_image + _WORDS
    three = replace(one, repeats=3)
    network = policy(three)
    counted = counted_by_torch(network, torch.tensor([_IMAGE_TOKEN] * 8 + [9] * _WORDS), 3)
    heads, own, depth = 32, 1 + _CHUNK, 2
    unseen = 3 * 4 * heads * depth * (3 * own * 2 * own)
    assert ours(network, three, length) == pytest.approx(counted - unseen, rel=1e-6)
    causal = policy(replace(one, bidirectional_prefix=False))
    later = 3 * 4 * heads * depth * length**2 / 2
    both_ways = ours(policy(one), one, length)
    assert ours(causal, one, length) == pytest.approx(both_ways - later, rel=1e-6)
