"""What a language model goes on to say."""

from __future__ import annotations

from dataclasses import replace

import torch

from trainer.data.text.vocabulary import Vocabulary
from trainer.models.language.generation import GenerationConfig, generate
from trainer.models.language.language_model import LanguageModel


def continuation(
    model: LanguageModel, vocabulary: Vocabulary, prompt: str, config: GenerationConfig
) -> str:
    """Of the prompt as a document's beginning, up to its end; without the prompt."""
    tokens = [*vocabulary.begin, *vocabulary.tokenizer.encode(prompt)]
    if not tokens:
        # A tokenizer that marks ends alone: after one, a document begins.
        tokens = [vocabulary.end]
    device = model.head.weight.device
    said = generate(
        model,
        torch.tensor([tokens], device=device),
        replace(config, stop_token=vocabulary.end),
    )
    # Rows beyond the tokenizer's tokens were never learnt, and mean nothing.
    known = [token for token in said[0].tolist() if token < vocabulary.tokenizer.vocabulary_size]
    return vocabulary.tokenizer.decode(known)
