"""An action expert as a policy's head: it is given what was, and asked what is to come.

Axes: B sample, P past timestep, T timestep to come, A numbers an action, N rows of numbers,
Q numbers of what is known of the body.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainer.models.action.configuration import Prediction
from trainer.models.action.cross_attention_expert import CrossAttentionExpert, ObservedTokens
from trainer.models.action.observation_token_expert import ObservationTokenExpert, ObservedToken
from trainer.models.backbone import BackboneFeatures
from trainer.models.chunk_policy import Scene

Expert = ObservationTokenExpert | CrossAttentionExpert


class Known(NamedTuple):
    """Past actions (B, P, A) and states (B, N, Q), the oldest first."""

    past_BPA: Tensor
    state_BNQ: Tensor

    @staticmethod
    def of(number_BN: Tensor, *, past_steps: int, action_size: int) -> Known:
        """Of numbers side by side, past actions first: an action has as many as a state."""
        number_BNA = number_BN.unflatten(1, (-1, action_size))
        return Known(number_BNA[:, :past_steps], number_BNA[:, past_steps:])


class Conditioning(NamedTuple):
    observed: ObservedToken | ObservedTokens
    past_BPA: Tensor


def scene_of(expert: Expert, features: BackboneFeatures, known: Known) -> Scene:
    """What `ExpertHead.read` takes."""
    return (known.past_BPA, *expert.read(features, known.state_BNQ).tensors)


class ExpertHead:
    """An expert, asked for clean chunks of what is to come; past actions are given as they were.

    Its times run the other way: at s = 1 - t it sees x = a + s (e - a). Where it predicts the
    velocity v = e - a, the clean chunk is a = x - s v, and an Euler step along v is one towards a.

    time_offset: added to s for the expert alone.
    """

    def __init__(self, expert: Expert, predicts: Prediction, *, time_offset: float = 0.0) -> None:
        self._expert, self._predicts, self._time_offset = expert, predicts, time_offset

    def read(self, *scene: Tensor) -> Conditioning:
        past_BPA, *observed = scene
        if isinstance(self._expert, ObservationTokenExpert):
            return Conditioning(ObservedToken(*observed), past_BPA)
        return Conditioning(ObservedTokens.of(*observed), past_BPA)

    def __call__(self, noisy_BTA: Tensor, time_B: Tensor, conditioning: Conditioning) -> Tensor:
        remaining_B, past_BPA = 1 - time_B, conditioning.past_BPA
        predicted_BTA = self._expert(
            torch.cat([past_BPA.to(noisy_BTA.dtype), noisy_BTA], dim=1),
            remaining_B + self._time_offset,
            conditioning.observed,  # pyright: ignore[reportArgumentType]
        )[:, past_BPA.shape[1] :]
        if self._predicts == "chunk":
            return predicted_BTA
        return noisy_BTA - remaining_B[:, None, None] * predicted_BTA
