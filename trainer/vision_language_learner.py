"""A vision-language model's loss: the answers' tokens, each after the pictures and words before it.

Axes: B sequence, S position, N picture, C H W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.data.errors import DataError
from trainer.data.image_files import decode_image, resize_image
from trainer.data.text.packing import PackedSequence
from trainer.language_learner import TextBatch, TextLearner
from trainer.models.backbone import VisionLanguageInput
from trainer.models.language.cross_entropy import CrossEntropy
from trainer.models.language.language_model import LanguageOutput
from trainer.models.policy_network import images_to_input
from trainer.models.vision_language import VisionLanguageModel
from trainer.vision_language_configuration import VisionLanguageTrainConfig


def read_picture(file: bytes, size: int) -> npt.NDArray[np.uint8]:
    """(size, size, 3) RGB of a JPEG or PNG file. Raises DataError for anything else."""
    image = decode_image(file)
    return image if image.shape[:2] == (size, size) else resize_image(image, (size, size))


def read_pictures(files: Sequence[bytes], size: int, device: torch.device) -> Tensor:
    """(N, 3, size, size) in [-1, 1]. Raises DataError for a picture that cannot be read."""
    try:
        pictures = [read_picture(file, size) for file in files]
    except DataError as error:
        raise DataError(f"a picture of the data cannot be read: {error}") from error
    pixels = np.stack(pictures) if pictures else np.zeros((0, size, size, 3), np.uint8)
    return images_to_input(torch.from_numpy(pixels).to(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class PicturedBatch(TextBatch):
    """images: (N, C, H, W) in [-1, 1], those of the first sequence first. image_starts: (B + 1,),
    where each sequence's begin. is_prefix_BS: images and prompts, of packed documents."""

    images: Tensor
    image_starts: tuple[int, ...]
    is_prefix_BS: Tensor

    @staticmethod
    def with_pictures(
        sequences: Sequence[PackedSequence], size: int, device: torch.device
    ) -> PicturedBatch:
        """Raises DataError for a picture that cannot be read."""
        files = [file for sequence in sequences for file in sequence.images]
        starts = np.cumsum([0, *(len(sequence.images) for sequence in sequences)])
        return PicturedBatch(
            **vars(TextBatch.of(sequences, device)),
            images=read_pictures(files, size, device),
            image_starts=tuple(int(start) for start in starts),
            is_prefix_BS=torch.from_numpy(
                np.stack([sequence.is_prefix for sequence in sequences])
            ).to(device),
        )

    def images_of(self, rows: slice) -> Tensor | None:
        """Of some sequences; None for none."""
        start, stop = self.image_starts[rows.start], self.image_starts[rows.stop]
        return self.images[start:stop] if stop > start else None


class VisionLanguageLearner(TextLearner[VisionLanguageModel, PicturedBatch]):
    def __init__(
        self,
        model: VisionLanguageModel,
        config: VisionLanguageTrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(model, config, device, num_threads=num_threads)
        model.checkpoint_activations(config.checkpoint_activations)
        if config.compile:
            model.compile_blocks()

    def loss(self, batch: PicturedBatch, rows: slice) -> CrossEntropy:
        with self.autocast():
            return pictured_loss(self.network, batch, rows)


def pictured_loss(
    model: Callable[..., LanguageOutput], batch: PicturedBatch, rows: slice
) -> CrossEntropy:
    """Of some of its sequences. model: see `VisionLanguageModel.forward`."""
    output = model(
        VisionLanguageInput(token_BS=batch.token_BS[rows], images=batch.images_of(rows)),
        label_BS=batch.label_BS[rows],
        document_BS=batch.document_BS[rows],
        position_BS=batch.position_BS[rows],
        is_prefix_BS=batch.is_prefix_BS[rows],
    )
    assert output.loss is not None
    return output.loss
