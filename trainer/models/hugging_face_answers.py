"""A Hugging Face vision-language model that learns to answer, and answers.

Axes: B document, S token, N image, C channel, H W its sides, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.models.backbone import VisionLanguageInput
from trainer.models.hugging_face import HuggingFaceBackbone, HuggingFaceConfig
from trainer.models.hugging_face_images import ImageTaking
from trainer.models.language.cross_entropy import CrossEntropy, cross_entropy
from trainer.models.language.generation import GenerationConfig


class HuggingFaceAnswerer(HuggingFaceBackbone):
    """The backbone of a policy, under the same names: one can begin with what was learnt here.

    pictures: how it takes them. image_token: the place holder of one of a picture's tokens. The
    observation token, which is for policies, is neither learnt nor said.
    """

    def __init__(
        self, config: HuggingFaceConfig, pictures: ImageTaking, *, image_token: int
    ) -> None:
        super().__init__(config)
        self._pictures, self._image_token = pictures, image_token

    def loss(
        self, inputs: VisionLanguageInput, *, label_BS: Tensor, is_prefix_BS: Tensor
    ) -> CrossEntropy:
        """Of what follows each token. inputs: images (N, C, H, W) in [-1, 1], each document in a
        row of its own. is_prefix_BS: what comes before its first answer."""
        arguments = self._arguments(self._taken(inputs, is_prefix_BS))
        hidden_BSD = self.model.model(**arguments, use_cache=False).last_hidden_state
        words_VD = self.model.get_output_embeddings().weight[: self.observation_token_id]
        return cross_entropy(hidden_BSD.flatten(0, 1), words_VD, label_BS.flatten())

    @torch.no_grad()
    def generate(self, inputs: VisionLanguageInput, config: GenerationConfig) -> Tensor:
        """New tokens (B, up to max_new_tokens); as `VisionLanguageModel.generate` takes them."""
        from transformers import GenerationConfig as Drawing

        taken = self._taken(inputs, None)
        # Positions it counts by itself.
        prompt = {
            "input_ids": taken.token_BS,
            "attention_mask": taken.valid.long(),
            **({} if taken.images is None else {"pixel_values": taken.images}),
            **taken.extras,
        }
        is_drawn = config.temperature > 0
        how = {
            "temperature": config.temperature,
            "top_k": config.top_k or 0,
            "top_p": config.top_p,
        }
        # Of its own, so that what a folder wishes for does not count.
        drawing = Drawing(
            max_new_tokens=config.max_new_tokens,
            do_sample=is_drawn,
            eos_token_id=config.stop_token,
            pad_token_id=config.stop_token,
            suppress_tokens=[self.observation_token_id],
            **(how if is_drawn else {}),
        )
        device = inputs.token_BS.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            said_BS = self.model.generate(**prompt, generation_config=drawing)
        return said_BS[:, inputs.token_BS.shape[1] :]

    def _taken(
        self, inputs: VisionLanguageInput, is_prefix_BS: Tensor | None
    ) -> VisionLanguageInput:
        return self._pictures.inputs(
            inputs.images,
            inputs.token_BS,
            inputs.valid,
            image_token=self._image_token,
            is_prefix_BS=is_prefix_BS,
        )
