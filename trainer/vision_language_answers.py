"""What a vision-language model says about pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from trainer.data.text.documents import Turn
from trainer.data.text.vocabulary import Vocabulary
from trainer.models.backbone import VisionLanguageInput
from trainer.models.hugging_face_answers import HuggingFaceAnswerer
from trainer.models.language.generation import GenerationConfig
from trainer.models.policy_network import images_to_input
from trainer.models.vision_language import VisionLanguageModel
from trainer.vision_language_learner import read_picture


def answer(
    model: VisionLanguageModel | HuggingFaceAnswerer,
    vocabulary: Vocabulary,
    question: str,
    images: Sequence[bytes],
    *,
    image_size: int,
    drawn: GenerationConfig,
) -> str:
    """images: JPEG or PNG files. vocabulary: with as many tokens an image as the model has.

    Raises DataError for a file that is none.
    """
    device = next(model.parameters()).device
    turn = Turn(role="user", text=question, num_images=len(images))
    tokens = vocabulary.template.encode_prompt([turn])
    pixels = None
    if images:
        pictures = np.stack([read_picture(file, image_size) for file in images])
        pixels = images_to_input(torch.from_numpy(pictures).to(device))
    said = model.generate(
        VisionLanguageInput(token_BS=torch.tensor([tokens], device=device), images=pixels),
        replace(drawn, stop_token=vocabulary.end),
    )
    known = [token for token in said[0].tolist() if token < vocabulary.tokenizer.vocabulary_size]
    return vocabulary.tokenizer.decode(known)
