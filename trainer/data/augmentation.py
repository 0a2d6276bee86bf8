"""Random crops, lighting, colour and blur of images, on the training's device, a batch at once.

What happens to an image is a function of the run's seed, the sample's number and its camera: the
same for all frames of one camera, whichever process decoded them, and after any resume.

Axes: B sample, F frame, H W image, C channel, K tap of a blur.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor

from policy_interface.types import FloatArray
from trainer.data.configuration import AugmentationConfig
from trainer.data.counter_random import normal, uniform
from trainer.data.windows import IntArray

# Independent streams under one seed, apart from those of the sampling.
_IMAGE_STREAM, _PROPRIOCEPTION_STREAM = 2, 3
_SHIFT_Y, _SHIFT_X, _CONTRAST, _BRIGHTNESS, _SIDE, _SATURATION, _HUE, _BLUR = range(8)
_NUM_DRAWS = 8

# Luminance and two axes of colour (YIQ, NTSC 1953), in which hue is a turn and saturation a length.
_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


def augmented_images(
    images_BFHWC: Tensor,
    camera: str,
    numbers_B: IntArray,
    config: AugmentationConfig,
    seed: int,
) -> Tensor:
    """uint8 images of one camera, changed at random.

    numbers_B: of the samples. Returns (B, F, 3, H, W) in about [-1, 1]; channels lie last in
    memory, as convolutions like it.
    """
    batch, frames, height, width, _ = images_BFHWC.shape
    key = zlib.crc32(camera.encode())
    draws = uniform(seed, _IMAGE_STREAM, key, numbers_B[:, None], np.arange(_NUM_DRAWS))
    # All frames of a sample share its draws.
    draws = np.repeat(draws, frames, axis=0)
    images_NHWC = images_BFHWC.reshape(batch * frames, height, width, 3)
    if config.crop_fraction < 1:
        images_NHWC = _cropped(images_NHWC, draws, config)
    else:
        images_NHWC = _shifted(images_NHWC, draws, config.shift_pixels)

    def parameter(values: FloatArray, *shape: int) -> Tensor:
        return torch.from_numpy(values).float().to(images_BFHWC.device).reshape(-1, *shape)

    contrast = parameter(1 + config.contrast * (2 * draws[:, _CONTRAST] - 1), 1, 1, 1)
    brightness = parameter(config.brightness * (2 * draws[:, _BRIGHTNESS] - 1), 1, 1, 1)
    # (pixel / 127.5 - 1) * contrast + brightness, in one multiplication and one addition.
    images = images_NHWC.float().mul_(contrast / 127.5).add_(brightness - contrast)
    if config.saturation or config.hue:
        turn = parameter(2 * math.pi * config.hue * (2 * draws[:, _HUE] - 1))
        length = parameter(1 + config.saturation * (2 * draws[:, _SATURATION] - 1))
        images = torch.einsum("nhwc,ndc->nhwd", images, _colour_matrices(turn, length))
    if config.blur_pixels:
        images = _blurred(images, parameter(config.blur_pixels * draws[:, _BLUR]), config)
    return images.reshape(batch, frames, height, width, 3).permute(0, 1, 4, 2, 3)


def proprioception_noise(numbers_B: IntArray, size: int, seed: int) -> FloatArray:
    """(B, size), of variance 1."""
    return normal(seed, _PROPRIOCEPTION_STREAM, numbers_B[:, None], np.arange(size))


def _shifted(images_NHWC: Tensor, draws: FloatArray, most: int) -> Tensor:
    """By whole pixels, edges repeated."""
    if most == 0:
        return images_NHWC
    _, height, width, _ = images_NHWC.shape
    device = images_NHWC.device
    # Written part by part: an index of every pixel took ten times as long on a CPU.
    padded = images_NHWC.new_empty(len(images_NHWC), height + 2 * most, width + 2 * most, 3)
    middle = padded[:, most : most + height]
    middle[:, :, most : most + width] = images_NHWC
    middle[:, :, :most] = images_NHWC[:, :, :1]
    middle[:, :, most + width :] = images_NHWC[:, :, -1:]
    padded[:, :most] = middle[:, :1]
    padded[:, most + height :] = middle[:, -1:]
    chosen = (draws[:, [_SHIFT_Y, _SHIFT_X]] * (2 * most + 1)).astype(np.int64)
    if device.type == "cpu":
        return torch.from_numpy(_windows_of(padded.numpy(), chosen, (height, width)))
    # A view of every shift of every image, from which one indexing picks a batch.
    shifts_NyxHWC = padded.unfold(1, height, 1).unfold(2, width, 1).movedim(3, -1)
    y_N, x_N = torch.from_numpy(chosen.T.copy()).to(device)
    return shifts_NyxHWC[torch.arange(len(images_NHWC), device=device), y_N, x_N]


def _windows_of(
    images_NHWC: npt.NDArray[np.uint8], corners_N2: IntArray, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """A part of each image, row by row: eight times as fast as torch's indexing."""
    count, height, width, channels = images_NHWC.shape
    rows = np.arange(count)[:, None] * height + corners_N2[:, :1] + np.arange(size[0])
    starts = (rows * width + corners_N2[:, 1:]) * channels
    runs = np.lib.stride_tricks.sliding_window_view(images_NHWC.reshape(-1), size[1] * channels)
    return runs[starts].reshape(count, *size, channels)


def _cropped(images_NHWC: Tensor, draws: FloatArray, config: AugmentationConfig) -> Tensor:
    """A part of random size and place, enlarged to the whole; also shifted beyond the edges by as
    much as `shift_pixels` allows. Float, in pixels."""
    _, height, width, _ = images_NHWC.shape
    side = config.crop_fraction + (1 - config.crop_fraction) * draws[:, _SIDE]
    affine = np.zeros((len(draws), 2, 3), np.float32)
    for axis, (draw, length) in enumerate(((_SHIFT_X, width), (_SHIFT_Y, height))):
        # In grid_sample's units an image is two wide.
        reach = (1 - side) + 2 * config.shift_pixels / length
        affine[:, axis, axis] = side
        affine[:, axis, 2] = reach * (2 * draws[:, draw] - 1)
    images = images_NHWC.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(
        torch.from_numpy(affine).to(images.device), list(images.shape), align_corners=False
    )
    sampled = F.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.permute(0, 2, 3, 1).contiguous()


def _colour_matrices(turn_N: Tensor, length_N: Tensor) -> Tensor:
    """(N, 3, 3) in RGB."""
    cosine, sine = length_N * torch.cos(turn_N), length_N * torch.sin(turn_N)
    turned = torch.zeros((len(turn_N), 3, 3), device=turn_N.device)
    turned[:, 0, 0] = 1
    turned[:, 1, 1], turned[:, 1, 2] = cosine, -sine
    turned[:, 2, 1], turned[:, 2, 2] = sine, cosine
    return _FROM_YIQ.to(turned) @ turned @ _TO_YIQ.to(turned)


def _blurred(images_NHWC: Tensor, sigma_N: Tensor, config: AugmentationConfig) -> Tensor:
    count, height, width, channels = images_NHWC.shape
    reach = max(1, math.ceil(3 * config.blur_pixels))
    taps_K = torch.arange(-reach, reach + 1, device=sigma_N.device)
    kernels_NK = torch.exp(-0.5 * (taps_K / sigma_N.clamp(min=1e-3)[:, None]) ** 2)
    kernels_NK = kernels_NK / kernels_NK.sum(dim=1, keepdim=True)
    weights = kernels_NK.repeat_interleave(channels, dim=0)[:, None]
    # Every channel of every image is a group of one convolution, with a kernel of its own.
    planes = images_NHWC.permute(0, 3, 1, 2).reshape(1, count * channels, height, width)
    planes = F.pad(planes, (reach,) * 4, mode="replicate")
    planes = F.conv2d(planes, weights[:, :, :, None], groups=count * channels)
    planes = F.conv2d(planes, weights[:, :, None, :], groups=count * channels)
    return planes.reshape(count, channels, height, width).permute(0, 2, 3, 1)
