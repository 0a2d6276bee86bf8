"""The loss of a vision-language model of Hugging Face's: each document in a row of its own.

Its attention knows rows and padding, and how its positions count only itself; so what is packed for
our own models is unpacked here, and the same tokens are learnt.

Axes: B document, S position, N picture, C H W.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.data.text.packing import IGNORED, PackedSequence
from trainer.language_learner import TextLearner
from trainer.models.backbone import VisionLanguageInput
from trainer.models.hugging_face_answers import HuggingFaceAnswerer
from trainer.models.language.cross_entropy import CrossEntropy
from trainer.vision_language_configuration import VisionLanguageTrainConfig
from trainer.vision_language_learner import read_pictures


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentBatch:
    """Documents (B, S), a rank's, padded behind; see TextBatch and PicturedBatch."""

    token_BS: Tensor
    label_BS: Tensor
    valid_BS: Tensor
    is_prefix_BS: Tensor
    images: Tensor
    image_starts: tuple[int, ...]
    num_tokens: int
    num_learnt: int

    @staticmethod
    def of(
        sequences: Sequence[PackedSequence],
        size: int,
        device: torch.device,
        *,
        image_token: int,
        tokens_per_image: int,
    ) -> DocumentBatch:
        """Raises DataError for a picture that cannot be read."""
        documents = [document for each in sequences for document in _documents(each)]
        shape = (len(documents), max(len(token) for token, _, _ in documents))
        token_BS, label_BS = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
        valid_BS, is_prefix_BS = np.zeros(shape, bool), np.zeros(shape, bool)
        for row, (token, label, is_prefix) in enumerate(documents):
            held = slice(0, len(token))
            token_BS[row, held], label_BS[row, held] = token, label
            valid_BS[row, held], is_prefix_BS[row, held] = True, is_prefix
        seen = [int((token == image_token).sum()) // tokens_per_image for token, _, _ in documents]
        return DocumentBatch(
            token_BS=torch.from_numpy(token_BS).to(device),
            label_BS=torch.from_numpy(label_BS).to(device),
            valid_BS=torch.from_numpy(valid_BS).to(device),
            is_prefix_BS=torch.from_numpy(is_prefix_BS).to(device),
            images=read_pictures([f for each in sequences for f in each.images], size, device),
            image_starts=tuple(int(start) for start in np.cumsum([0, *seen])),
            num_tokens=int(valid_BS.sum()),
            num_learnt=int((label_BS != IGNORED).sum()),
        )

    def inputs(self, rows: slice) -> VisionLanguageInput:
        """Of some documents."""
        start, stop = self.image_starts[rows.start], self.image_starts[rows.stop]
        return VisionLanguageInput(
            token_BS=self.token_BS[rows],
            valid_BS=self.valid_BS[rows],
            images=self.images[start:stop] if stop > start else None,
        )


def _documents(
    sequence: PackedSequence,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Tokens, labels and prefix of each."""
    is_prefix = sequence.is_prefix
    for begin, end in pairwise(sequence.boundaries.tolist()):
        yield sequence.token[begin:end], sequence.label[begin:end], is_prefix[begin:end]


class HuggingFaceAnswersLearner(TextLearner[HuggingFaceAnswerer, DocumentBatch]):
    def __init__(
        self,
        model: HuggingFaceAnswerer,
        config: VisionLanguageTrainConfig,
        device: torch.device,
        *,
        num_threads: int = 1,
    ) -> None:
        super().__init__(model, config, device, num_threads=num_threads)
        if config.checkpoint_activations:
            model.checkpoint_activations()
        if config.compile:
            model.compile_blocks()

    def loss(self, batch: DocumentBatch, rows: slice) -> CrossEntropy:
        with self.autocast():
            return self.network.loss(
                batch.inputs(rows),
                label_BS=batch.label_BS[rows],
                is_prefix_BS=batch.is_prefix_BS[rows],
            )
