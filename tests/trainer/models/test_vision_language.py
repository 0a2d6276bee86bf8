"""Images among words: sizes, places, prefixes, and what an expert reads of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.trainer.small_models import TOWER
from trainer.models.backbone import VisionLanguageInput
from trainer.models.language.generation import GenerationConfig
from trainer.models.presets import VISION_LANGUAGE_PRESETS, VISION_PRESETS
from trainer.models.vision.connector import pixel_shuffle
from trainer.models.vision.convolutional_stem import stem_strides
from trainer.models.vision.convolutional_tower import ConvolutionalTower
from trainer.models.vision.vision_transformer import VisionTransformer
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.requirements import ConfigurationError

CONFIG = VISION_LANGUAGE_PRESETS["tiny"]
IMAGE = CONFIG.image_token
PER_IMAGE = 4


def model(config: VisionLanguageConfig = CONFIG) -> VisionLanguageModel:
    torch.manual_seed(0)
    return VisionLanguageModel(config).eval()


def images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def captioned(num_samples: int = 2) -> VisionLanguageInput:
    token = torch.tensor([[7] + [IMAGE] * PER_IMAGE + [8, 9, 10]] * num_samples)
    return VisionLanguageInput(token_BS=token, images=images(num_samples))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 64), (16, 32)])
def test_any_size_of_image_becomes_its_grid(positions: str, height: int, width: int) -> None:
    config = replace(VISION_PRESETS["tiny"], positions=positions)
    vision = VisionTransformer(config)
    patches = vision(images(2, height, width))
    assert patches.shape == (2, height // 8, width // 8, 64)
    assert pixel_shuffle(patches, 2).shape == (2, config.num_tokens(height, width), 256)
    with pytest.raises(ValueError, match="both must be multiples of 16"):
        vision(images(1, height + 8, width))


@pytest.mark.parametrize(
    ("patch_size", "strides"), [(12, (3, 2, 2)), (14, None), (16, (2, 2, 2, 2)), (40, (5, 2, 2, 2))]
)
def test_a_stem_of_convolutions_makes_the_same_grid(
    patch_size: int, strides: tuple[int, ...] | None
) -> None:
    config = replace(VISION_PRESETS["tiny"], patch_size=patch_size, image_size=patch_size * 4)
    if strides is None:
        with pytest.raises(ConfigurationError, match="^patch_size: expected, for a stem of conv"):
            replace(config, stem="convolutions")
        return
    assert stem_strides(patch_size) == strides
    torch.manual_seed(0)
    vision = VisionTransformer(replace(config, stem="convolutions"))
    shape = (patch_size * 2, patch_size * 4)
    assert vision(images(2, *shape)).shape == VisionTransformer(config)(images(2, *shape)).shape


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 70)])
def test_a_tower_of_convolutions_makes_as_many_tokens_of_any_size(height: int, width: int) -> None:
    torch.manual_seed(0)
    tower = ConvolutionalTower(TOWER)
    tokens = tower(images(2, height, width))
    assert tokens.shape == (2, 1, TOWER.tokens_per_image, TOWER.width)
    assert pixel_shuffle(tokens, TOWER.shuffle_factor).shape[1] == TOWER.num_tokens(height, width)
    with pytest.raises(ValueError, match="an image has 31 x 40 pixels; both must be 32 or more"):
        tower(images(1, 31, 40))


def test_a_tower_of_convolutions_tells_where_something_is() -> None:
    """Of a small square that is moved, the keypoints move by as much, and the same way."""
    torch.manual_seed(0)
    tower = ConvolutionalTower(replace(TOWER, num_keypoints=64))
    image = torch.zeros(2, 3, 64, 64)
    image[0, :, 16:24, 8:16], image[1, :, 16:24, 40:48] = 1.0, 1.0
    x_NK, y_NK = tower.features(image)[:, :128].chunk(2, dim=1)
    # A weak or broad feature answers the border as well; the sharpest of them answer the square.
    most = (x_NK[1] - x_NK[0]).abs().argmax()
    assert (x_NK[1] - x_NK[0])[most] > 0.3
    assert (y_NK[1] - y_NK[0])[most].abs() < 0.05


def test_a_tower_of_convolutions_stands_among_words() -> None:
    config = replace(CONFIG, vision=TOWER)
    token = torch.tensor([[7] + [IMAGE] * TOWER.tokens_per_image + [8, 9]] * 2)
    seen = [
        model(config)(VisionLanguageInput(token_BS=token, images=images(2, seed=seed))).hidden_BSD
        for seed in (0, 1)
    ]
    assert seen[0].shape[:2] == token.shape
    assert (seen[0] - seen[1])[:, -1].abs().max() > 1e-4
    with pytest.raises(ConfigurationError, match="^image_size: expected 32 or more, got 16"):
        replace(TOWER, image_size=16)


def test_a_stem_of_convolutions_reads_across_the_edges_of_patches() -> None:
    torch.manual_seed(0)
    config = replace(VISION_PRESETS["tiny"], stem="convolutions", depth=1)
    vision = VisionTransformer(config)
    image = images(1)
    moved = image.clone()
    # The last column of the first patch, and nothing of the second.
    moved[..., :8, 7] += 1
    first, second = (vision.patches(each)[0, :, 0, 1] for each in (image, moved))
    assert (first - second).abs().max() > 1e-3


def test_interpolated_positions_keep_their_place() -> None:
    # Rows that count upwards still do at twice the size, half a row at a time: to 0.05, as torch's
    # cubic kernel (a = -0.75) does not keep a straight line quite straight.
    vision = VisionTransformer(VISION_PRESETS["tiny"])
    rows = torch.arange(4.0)[:, None, None].expand(4, 4, 64)
    with torch.no_grad():
        vision.positions.copy_(rows)
    grown = vision._positions(8, 8, torch.device("cpu")).unflatten(0, (8, 8))[..., 0]
    torch.testing.assert_close(grown[3:5, 0], torch.tensor([1.25, 1.75]), atol=0.05, rtol=0)
    assert (grown[1:7].diff(dim=0) > 0).all()
    torch.testing.assert_close(grown, grown[:, :1].expand(-1, 8))


def test_pixel_shuffle_puts_neighbours_side_by_side() -> None:
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    patch = (10 * rows + columns)[None, :, :, None]
    shuffled = pixel_shuffle(patch, 2)[0]
    assert shuffled[0].tolist() == [0, 1, 10, 11]
    assert shuffled[1].tolist() == [2, 3, 12, 13]
    assert shuffled[3].tolist() == [20, 21, 30, 31]


def test_each_image_stands_where_its_tokens_are() -> None:
    network = model()
    inputs = captioned()
    embedded = network.embed(inputs.token_BS, inputs.images)
    assert inputs.images is not None
    for sample in range(2):
        alone = network.connector(network.vision(inputs.images[sample : sample + 1]))
        torch.testing.assert_close(embedded[sample, 1:5], alone[0])
        word = network.language.embed(inputs.token_BS[sample, [0, 5, 6, 7]])
        assert torch.equal(embedded[sample, [0, 5, 6, 7]], word)
    with pytest.raises(ValueError, match="8 image tokens, expected 12"):
        network.embed(inputs.token_BS, images(3))
    with pytest.raises(ValueError, match="no images were given"):
        network.embed(inputs.token_BS, None)


def test_a_prefix_is_read_in_both_directions_and_the_answer_is_not() -> None:
    network = model(replace(CONFIG, bidirectional_prefix=True))
    inputs = captioned(1)

    def hidden(token: int, place: int) -> Tensor:
        moved = inputs.token_BS.clone()
        moved[0, place] = token
        prefix = torch.tensor([6])
        return network(replace(inputs, token_BS=moved), prefix_B=prefix).hidden_BSD[0]

    before = hidden(8, 5)
    assert not torch.allclose(before[0], hidden(11, 5)[0])
    assert torch.equal(before[:7], hidden(11, 7)[:7])


@pytest.mark.parametrize("with_keys_values", [False, True])
def test_padding_is_no_part_of_what_an_expert_reads(with_keys_values: bool) -> None:
    network = model()
    inputs = captioned(1)

    def read(token: Tensor, valid: Tensor | None) -> Tensor:
        features = network.features(
            replace(inputs, token_BS=token, valid_BS=valid),
            num_layers=2,
            with_observation_token=True,
            with_keys_values=with_keys_values,
        )
        assert len(features.keys_values) == (2 if with_keys_values else 0)
        assert int(features.next_position_B) == 9
        return features.observation_B1F

    alone = read(inputs.token_BS, None)
    assert alone.shape == (1, 1, 2 * 64)
    for filler in (3, 4):
        pad = torch.full((1, 5), filler)
        is_real = torch.tensor([[True] * 8 + [False] * 5])
        behind = read(torch.cat([inputs.token_BS, pad], dim=1), is_real)
        before = read(torch.cat([pad, inputs.token_BS], dim=1), is_real.flip(1))
        torch.testing.assert_close(behind, alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(before, alone, atol=1e-5, rtol=1e-5)


def test_generation_reads_the_image() -> None:
    network = model()
    inputs = captioned()
    config = GenerationConfig(max_new_tokens=5, temperature=0)
    new = network.generate(inputs, config)
    assert new.shape == (2, 5)
    # Each step again, from the whole text.
    text = inputs.token_BS
    for step in range(5):
        output = network(replace(inputs, token_BS=text))
        following = network.language.logits(output.hidden_BSD[:, -1]).argmax(-1)
        assert torch.equal(new[:, step], following)
        text = torch.cat([text, following[:, None]], dim=1)


def test_activation_checkpoints_reach_every_tower() -> None:
    gradients = []
    for is_checkpointed in (False, True):
        network = model()
        network.checkpoint_activations(is_checkpointed)
        network(captioned()).hidden_BSD.square().mean().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    assert len(gradients[0]) > 20
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


def test_an_image_token_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="^image_token: expected"):
        replace(CONFIG, image_token=512)
