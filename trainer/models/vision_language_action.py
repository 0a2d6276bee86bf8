"""The whole policy: a backbone that sees and reads, and an expert that makes chunks of noise.

Axes: B sample, R draw, T timestep, A numbers an action, P proprioceptive step, Q its numbers,
W width of the expert.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.models.action.configuration import (
    ActionSpaceConfig,
    ExpertConfig,
    FlowConfig,
    ObservationTokenConfig,
)
from trainer.models.action.cross_attention_expert import CrossAttentionExpert
from trainer.models.action.diffusion import DiffusionConfig, denoise, diffusion_loss
from trainer.models.action.expert import repeated_rows, with_noise
from trainer.models.action.flow_matching import (
    chunk_loss,
    integrate,
    noisy_chunk,
    sample_times,
    velocity_loss,
)
from trainer.models.action.observation_token_expert import ObservationTokenExpert
from trainer.models.backbone import BackboneFeatures, VisionLanguageInput
from trainer.models.hugging_face import HuggingFaceBackbone, HuggingFaceConfig
from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.language_model import LanguageOutput
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class VisionLanguageActionConfig:
    """A vision-language-action policy.

    Attributes:
        backbone: Our own vision-language model, or one of Hugging Face's.
        expert: The network that denoises chunks.
        space: What an action is.
        objective: How the expert is trained and asked.
    """

    backbone: VisionLanguageConfig | HuggingFaceConfig
    expert: ExpertConfig
    space: ActionSpaceConfig
    objective: FlowConfig | DiffusionConfig = field(default_factory=FlowConfig)


@dataclass(frozen=True, kw_only=True)
class ActionBatch:
    """Observations and the chunks that followed them, in normalised numbers.

    Attributes:
        inputs: Images and instruction.
        chunk_BTA: Actions.
        weight_BT: How much each timestep's error counts: 0 beyond an episode's end, and in the
            past.
        is_known_BT: Past timesteps, which are given as they were; None for none.
        proprioception_BPQ: The body's state; None for a policy that reads none.
    """

    inputs: VisionLanguageInput
    chunk_BTA: Tensor
    weight_BT: Tensor
    is_known_BT: Tensor | None = None
    proprioception_BPQ: Tensor | None = None


class InputNoise(NamedTuple):
    """On all that the expert reads: actions (B R, T, A), embedded proprioception (B R, P, W)."""

    action_BTA: Tensor | None = None
    proprioception_BPW: Tensor | None = None


class Draws(NamedTuple):
    """Noise (B R, T, A) and times (B R,) from 0 to 1, those of one sample next to each other."""

    noise_BTA: Tensor
    time_B: Tensor
    inputs: InputNoise = InputNoise()


class VisionLanguageAction(nn.Module):
    """Images, instruction and proprioception to chunks of actions."""

    def __init__(self, config: VisionLanguageActionConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: VisionLanguageModel | HuggingFaceBackbone
        if isinstance(config.backbone, HuggingFaceConfig):
            self.backbone, shape = HuggingFaceBackbone(config.backbone), None
        else:
            self.backbone = VisionLanguageModel(config.backbone)
            language = config.backbone.language
            shape = language.transformer if isinstance(language, LanguageConfig) else None
        width, depth = self.backbone.width, self.backbone.depth
        self.expert: ObservationTokenExpert | CrossAttentionExpert
        if isinstance(config.expert, ObservationTokenConfig):
            self.expert = ObservationTokenExpert(config.expert, config.space, backbone_width=width)
        else:
            self.expert = CrossAttentionExpert(
                config.expert,
                config.space,
                backbone_width=width,
                backbone_depth=depth,
                backbone=shape,
            )

    def checkpoint_activations(self, enabled: bool = True) -> None:
        self.backbone.checkpoint_activations(enabled)
        self.expert.transformer.checkpoint_activations(enabled)

    def compile_blocks(self, **options: object) -> None:
        self.backbone.compile_blocks(**options)
        self.expert.transformer.compile_blocks(**options)

    def observe(self, inputs: VisionLanguageInput) -> BackboneFeatures:
        """What the expert reads of the backbone."""
        return self.backbone.features(
            inputs,
            num_layers=self.expert.num_backbone_layers,
            with_observation_token=self.expert.reads_observation_token,
            with_keys_values=self.expert.reads_keys_values,
        )

    def say(self, inputs: VisionLanguageInput, **options: Any) -> LanguageOutput:
        """What follows in words, of the backbone: see `VisionLanguageModel.forward`."""
        return self.backbone(inputs, **options)

    def draw(self, batch: ActionBatch, generator: torch.Generator) -> Draws:
        """`repeats` draws for each sample."""
        objective, chunk_BTA = self.config.objective, batch.chunk_BTA
        count, device = len(chunk_BTA) * objective.repeats, chunk_BTA.device
        noise_BTA = torch.randn((count, *chunk_BTA.shape[1:]), generator=generator, device=device)
        if isinstance(objective, FlowConfig):
            time_B = sample_times(objective.time, count, generator, device)
        else:
            levels = torch.randint(
                objective.num_levels, (count,), generator=generator, device=device
            )
            time_B = levels / objective.num_levels
        return Draws(noise_BTA, time_B, self.draw_input_noise(count, generator, device))

    def draw_input_noise(
        self, count: int, generator: torch.Generator, device: torch.device
    ) -> InputNoise:
        """None where the objective has none, or the policy is not being trained."""
        deviation, space = self.config.objective.input_noise, self.config.space
        if not self.training or not deviation:
            return InputNoise()

        def normal(*shape: int) -> Tensor:
            return deviation * torch.randn((count, *shape), generator=generator, device=device)

        action_BTA = normal(space.chunk_length, space.action_size)
        if not space.proprioception_size:
            return InputNoise(action_BTA)
        width = self.config.expert.transformer.width
        return InputNoise(action_BTA, normal(space.proprioception_steps, width))

    def forward(
        self,
        batch: ActionBatch,
        *,
        generator: torch.Generator | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """The objective's loss, a scalar: the backbone runs once, the expert on every draw."""
        if draws is None:
            if generator is None:
                raise ValueError("give a generator, or the draws themselves")
            draws = self.draw(batch, generator)
        objective = self.config.objective
        times = len(draws.time_B) // len(batch.chunk_BTA)
        conditioning = self.expert.read(
            self.observe(batch.inputs), batch.proprioception_BPQ
        ).repeated(times, draws.inputs.proprioception_BPW)
        chunk_BTA = repeated_rows(batch.chunk_BTA, times)
        weight_BT = repeated_rows(batch.weight_BT, times)

        def output(noisy_BTA: Tensor, time_B: Tensor) -> Tensor:
            if batch.is_known_BT is not None:
                is_known_BT = repeated_rows(batch.is_known_BT, times)
                noisy_BTA = torch.where(is_known_BT[..., None], chunk_BTA, noisy_BTA)
            noisy_BTA = with_noise(noisy_BTA, draws.inputs.action_BTA)
            return self.expert(noisy_BTA, time_B, conditioning)

        if isinstance(objective, DiffusionConfig):
            return diffusion_loss(
                objective,
                output,
                chunk_BTA,
                weight_BT,
                noise_BTA=draws.noise_BTA,
                level_B=(draws.time_B * objective.num_levels).round().long(),
            )
        noisy_BTA = noisy_chunk(chunk_BTA, draws.noise_BTA, draws.time_B)
        if objective.clamp is not None:
            noisy_BTA = noisy_BTA.clamp(-objective.clamp, objective.clamp)
        predicted_BTA = output(noisy_BTA, draws.time_B)
        if objective.predicts == "chunk":
            return chunk_loss(predicted_BTA, chunk_BTA, draws.time_B, weight_BT)
        return velocity_loss(predicted_BTA, chunk_BTA, draws.noise_BTA, weight_BT)

    @torch.no_grad()
    def sample(
        self,
        inputs: VisionLanguageInput,
        noise_BTA: Tensor,
        *,
        proprioception_BPQ: Tensor | None = None,
        known_BTA: Tensor | None = None,
        is_known_BT: Tensor | None = None,
        num_steps: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A chunk (B, T, A) of normalised actions from noise; known timesteps come back as given.

        `generator`: of what the DDPM sampler adds on the way; the others add nothing.
        """
        objective = self.config.objective
        if num_steps is not None:
            objective = replace(objective, num_steps=num_steps)
        conditioning = self.expert.read(self.observe(inputs), proprioception_BPQ)

        def with_known(x_BTA: Tensor) -> Tensor:
            if known_BTA is None or is_known_BT is None:
                return x_BTA
            return torch.where(is_known_BT[..., None], known_BTA, x_BTA)

        def output(noisy_BTA: Tensor, time_B: Tensor) -> Tensor:
            return self.expert(with_known(noisy_BTA), time_B, conditioning)

        if isinstance(objective, DiffusionConfig):
            return with_known(denoise(objective, output, noise_BTA, generator=generator))

        def velocity(noisy_BTA: Tensor, time_B: Tensor) -> Tensor:
            predicted_BTA = output(noisy_BTA, time_B)
            if objective.predicts == "velocity":
                return predicted_BTA
            return (noisy_BTA - predicted_BTA) / time_B[:, None, None]

        return with_known(
            integrate(
                velocity,
                noise_BTA,
                num_steps=objective.num_steps,
                solver=objective.solver,
                clamp=objective.clamp,
            )
        )
