"""Words and the camera's place decide what is looked for in an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainer.small_models import EXPERT, LANGUAGE, TOWER
from trainer.initialization import load_part
from trainer.models.backbone import VisionLanguageInput
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.requirements import ConfigurationError
from trainer.vision_language_action_configuration import VisionLanguageActionShape

IMAGE, NUM_VIEWS = 3, 2
PLAIN = VisionLanguageConfig(language=LANGUAGE, vision=TOWER, image_token=IMAGE)
MODULATED = replace(PLAIN, vision=replace(TOWER, modulated_views=NUM_VIEWS))
KIWI, BANANA = [20, 21], [22, 23]


def model(config: VisionLanguageConfig = MODULATED, *, has_learnt: bool = True) -> Any:
    torch.manual_seed(0)
    network = VisionLanguageModel(config).eval()
    if network.modulation is not None and has_learnt:
        torch.nn.init.normal_(network.modulation.to_maps.weight)
    return network


def told(*words: list[int], images: Tensor | None = None) -> VisionLanguageInput:
    """A sample for each list of words, all of the same two pictures unless told otherwise."""
    shown = [IMAGE] * (NUM_VIEWS * TOWER.tokens_per_image)
    if images is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(NUM_VIEWS, 3, 32, 32, generator=generator).repeat(len(words), 1, 1, 1)
    return VisionLanguageInput(token_BS=torch.tensor([shown + own for own in words]), images=images)


def seen(network: VisionLanguageModel, inputs: VisionLanguageInput) -> Tensor:
    """(B, V T, D): the images' tokens as they stand among the words."""
    embedded_BSD = network.embed(inputs.token_BS, inputs.images, inputs.valid)
    return embedded_BSD[:, : NUM_VIEWS * TOWER.tokens_per_image].detach()


def test_an_image_is_seen_by_what_is_told() -> None:
    network = model()
    kiwi, again, banana = seen(network, told(KIWI, KIWI, BANANA))
    assert torch.equal(kiwi, again)
    assert (kiwi - banana).abs().max() > 0.1
    # As it is where nobody is told what to do: a caption is not to be read off its own words.
    plain = network.embed(told(KIWI).token_BS, told(KIWI).images)
    other = network.embed(told(BANANA).token_BS, told(BANANA).images)
    num_images = NUM_VIEWS * TOWER.tokens_per_image
    assert torch.equal(plain[:, :num_images], other[:, :num_images])


def test_an_image_is_seen_by_which_camera_took_it() -> None:
    same = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1, 1)
    first, second = seen(model(), told(KIWI, images=same))[0].chunk(NUM_VIEWS)
    assert (first - second).abs().max() > 1e-3
    first, second = seen(model(PLAIN), told(KIWI, images=same))[0].chunk(NUM_VIEWS)
    assert torch.equal(first, second)


def test_padding_and_the_other_samples_change_nothing() -> None:
    network = model()
    alone = seen(network, told(KIWI))
    padded = told([*KIWI, 30, 31], BANANA + BANANA)
    valid_BS = torch.ones_like(padded.token_BS, dtype=torch.bool)
    valid_BS[0, -2:] = False
    beside = seen(network, replace(padded, valid_BS=valid_BS))
    torch.testing.assert_close(beside[:1], alone, rtol=1e-5, atol=1e-5)


def test_it_changes_nothing_until_it_has_learnt() -> None:
    plain, fresh = model(PLAIN), model(has_learnt=False)
    load_part(fresh, dict(plain.named_parameters()), source="plain")
    torch.testing.assert_close(seen(fresh, told(KIWI)), seen(plain, told(KIWI)))
    fresh.modulation.to_maps.weight.data.fill_(0.1)
    learnt = dict(fresh.named_parameters())
    again = model(has_learnt=False)
    load_part(again, learnt, source="learnt")
    assert torch.equal(seen(again, told(KIWI)), seen(fresh, told(KIWI)))
    # A part of it is no whole one, and a network without it has no place for it.
    del learnt["modulation.from_view"]
    with pytest.raises(ConfigurationError, match=r"missing modulation\.from_view; unexpected none"):
        load_part(again, learnt, source="torn")
    with pytest.raises(ConfigurationError, match=r"unexpected modulation\."):
        load_part(plain, dict(fresh.named_parameters()), source="learnt")


def test_it_learns_from_its_first_step_on() -> None:
    network = model(has_learnt=False)
    seen_by = network.embed(told(KIWI).token_BS, told(KIWI).images, told(KIWI).valid)
    seen_by.square().sum().backward()
    assert network.modulation.to_maps.weight.grad.abs().max() > 0


@pytest.mark.parametrize("num_views", [-1, 257])
def test_no_such_number_of_views(num_views: int) -> None:
    with pytest.raises(ConfigurationError, match="^modulated_views: expected 0 to 256, got "):
        replace(TOWER, modulated_views=num_views)


def test_as_many_views_as_a_policy_sees() -> None:
    shape = VisionLanguageActionShape(
        language=LANGUAGE, vision=MODULATED.vision, expert=EXPERT, image_size=32
    )
    expected = "expected 0, or the 3 images of an observation, got 2"
    with pytest.raises(ConfigurationError, match=expected):
        VisionLanguagePolicy(
            shape, cameras=("a", "b", "c"), chunk_length=8, action_size=10, image_token=IMAGE
        )
    one = VisionLanguageInput(token_BS=told(KIWI).token_BS, images=torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="expected 2 images a sample"):
        seen(model(), one)
