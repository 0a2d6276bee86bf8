"""One chunk from one observation with no work for the host: the whole of it as one CUDA graph.

A step of the flow is hundreds of kernels of a few microseconds, which a host cannot start as fast
as a GPU ends them.

Axes: B sample, T timestep, A numbers an action, P proprioceptive step, Q its numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.models.backbone import VisionLanguageInput
from trainer.models.vision_language_action import VisionLanguageAction


class CapturedSampler:
    """`VisionLanguageAction.sample` for inputs of the shapes that it was made with.

    The backbone must be our own: those of Hugging Face look at numbers on the host.
    """

    def __init__(
        self,
        policy: VisionLanguageAction,
        inputs: VisionLanguageInput,
        noise_BTA: Tensor,
        *,
        proprioception_BPQ: Tensor | None = None,
        num_steps: int | None = None,
    ) -> None:
        if not noise_BTA.is_cuda:
            raise ValueError(f"the noise is on {noise_BTA.device}; a CUDA graph needs a GPU")
        self._policy, self._num_steps = policy, num_steps
        self._tensors = {
            "token_BS": inputs.token_BS,
            "valid_BS": inputs.valid_BS,
            "images": inputs.images,
            "noise_BTA": noise_BTA,
            "proprioception_BPQ": proprioception_BPQ,
        }
        self._tensors = {k: None if v is None else v.clone() for k, v in self._tensors.items()}
        # What is compiled and what allocates does so before the capture, on a stream of its own.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._sample()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._chunk_BTA = self._sample()

    def __call__(
        self,
        inputs: VisionLanguageInput,
        noise_BTA: Tensor,
        *,
        proprioception_BPQ: Tensor | None = None,
    ) -> Tensor:
        """A chunk (B, T, A)."""
        given = {
            "token_BS": inputs.token_BS,
            "valid_BS": inputs.valid_BS,
            "images": inputs.images,
            "noise_BTA": noise_BTA,
            "proprioception_BPQ": proprioception_BPQ,
        }
        for name, tensor in self._tensors.items():
            new = given[name]
            got, expected = (None if x is None else tuple(x.shape) for x in (new, tensor))
            if got != expected:
                raise ValueError(
                    f"{name}: the sampler was captured for the shape {expected}, got {got}: "
                    "make another for it"
                )
            if tensor is not None and new is not None:
                tensor.copy_(new)
        self._graph.replay()
        return self._chunk_BTA.clone()

    def _sample(self) -> Tensor:
        tensors = self._tensors
        token_BS, noise_BTA = tensors["token_BS"], tensors["noise_BTA"]
        assert token_BS is not None
        assert noise_BTA is not None
        return self._policy.sample(
            VisionLanguageInput(
                token_BS=token_BS, valid_BS=tensors["valid_BS"], images=tensors["images"]
            ),
            noise_BTA,
            proprioception_BPQ=tensors["proprioception_BPQ"],
            num_steps=self._num_steps,
        )
