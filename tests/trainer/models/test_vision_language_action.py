"""The policy: one pass of the backbone for many draws, and nothing read of padding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainer.models.action.configuration import (
    ActionSpaceConfig,
    CrossAttentionConfig,
    ExpertConfig,
    FlowConfig,
    ObservationTokenConfig,
    Prediction,
    TimeConditioning,
)
from trainer.models.action.diffusion import DiffusionConfig
from trainer.models.action.diffusion import Prediction as DiffusionPrediction
from trainer.models.backbone import VisionLanguageInput
from trainer.models.chunk_policy import integrate_flow
from trainer.models.expert_head import Conditioning, ExpertHead
from trainer.models.language.configuration import TransformerConfig
from trainer.models.presets import VISION_LANGUAGE_PRESETS
from trainer.models.vision_language_action import (
    ActionBatch,
    Draws,
    VisionLanguageAction,
    VisionLanguageActionConfig,
)
from trainer.requirements import ConfigurationError

BACKBONE = VISION_LANGUAGE_PRESETS["tiny"]
IMAGE = BACKBONE.image_token
SPACE = ActionSpaceConfig(
    action_size=5, chunk_length=6, proprioception_size=3, proprioception_steps=2
)


def observation_token(time: TimeConditioning) -> ObservationTokenConfig:
    return ObservationTokenConfig(
        transformer=TransformerConfig(width=32, depth=2, num_heads=2),
        num_layers=2,
        num_times=50,
        time_conditioning=time,
    )


EXPERTS: dict[str, ExpertConfig] = {
    "token_concat": observation_token("concat"),
    "token_add": observation_token("add"),
    "keys_values": CrossAttentionConfig(
        transformer=TransformerConfig(width=48, depth=2, num_heads=2, head_width=32, causal=False)
    ),
    "layers": CrossAttentionConfig(
        transformer=TransformerConfig(
            width=48, depth=2, num_heads=4, num_key_value_heads=2, causal=False
        ),
        source="layers",
    ),
    "layers_pairs": CrossAttentionConfig(
        transformer=TransformerConfig(width=32, depth=1, num_heads=2, causal=False),
        source="layers",
        timesteps_per_token=2,
    ),
}
every_expert = pytest.mark.parametrize("kind", list(EXPERTS))


def policy(kind: str, **flow: object) -> VisionLanguageAction:
    torch.manual_seed(0)
    return VisionLanguageAction(
        VisionLanguageActionConfig(
            backbone=BACKBONE,
            expert=EXPERTS[kind],
            space=SPACE,
            objective=FlowConfig(**flow),  # type: ignore[arg-type]
        )
    )


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch() -> ActionBatch:
    token = torch.tensor([[7] + [IMAGE] * 4 + [8, 9, 10], [7] + [IMAGE] * 4 + [11, 0, 0]])
    return ActionBatch(
        inputs=VisionLanguageInput(
            token_BS=token,
            valid_BS=torch.tensor([[True] * 8, [True] * 6 + [False] * 2]),
            images=random(2, 3, 32, 32),
        ),
        chunk_BTA=random(2, 6, 5, seed=1),
        weight_BT=torch.tensor([[0.0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]]),
        is_known_BT=torch.tensor([[True] + [False] * 5] * 2),
        proprioception_BPQ=random(2, 2, 3, seed=2),
    )


@every_expert
def test_r_draws_are_r_separate_runs(kind: str) -> None:
    network = policy(kind, repeats=3, clamp=2.0)
    data = batch()
    draws = network.draw(data, torch.Generator().manual_seed(0))
    assert draws.noise_BTA.shape == (6, 6, 5)
    together = network(data, draws=draws)
    alone = [
        network(data, draws=Draws(draws.noise_BTA[r::3], draws.time_B[r::3])) for r in range(3)
    ]
    mean = torch.stack(alone).mean()
    torch.testing.assert_close(together, mean, atol=1e-6, rtol=1e-5)
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = [
        torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (together, mean)
    ]
    for got, expected in zip(*gradients, strict=True):
        if expected is not None:
            torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


@every_expert
def test_what_is_padding_changes_nothing(kind: str) -> None:
    network = policy(kind).eval()
    data = batch()
    noise = random(2, 6, 5, seed=3)

    def chunk(inputs: VisionLanguageInput, rows: slice = slice(None)) -> Tensor:
        assert data.proprioception_BPQ is not None
        return network.sample(
            inputs, noise[rows], proprioception_BPQ=data.proprioception_BPQ[rows], num_steps=3
        )

    padded = chunk(data.inputs)
    other = data.inputs.token_BS.clone()
    other[1, 6:] = 42
    assert torch.equal(padded, chunk(replace(data.inputs, token_BS=other)))
    assert data.inputs.images is not None
    alone = VisionLanguageInput(
        token_BS=data.inputs.token_BS[1:, :6], images=data.inputs.images[1:]
    )
    torch.testing.assert_close(padded[1:], chunk(alone, slice(1, None)), atol=1e-5, rtol=1e-5)
    # And what is no padding changes something.
    seen = data.inputs.token_BS.clone()
    seen[1, 5] = 42
    assert not torch.allclose(padded[1], chunk(replace(data.inputs, token_BS=seen))[1])


@pytest.mark.parametrize("predicts", ["velocity", "chunk"])
def test_a_served_policy_takes_the_steps_of_the_sampler(predicts: Prediction) -> None:
    network = policy("layers_pairs", predicts=predicts, num_steps=5).eval()
    data, noise = batch(), random(2, 6, 5, seed=3)
    assert data.proprioception_BPQ is not None
    expected = network.sample(data.inputs, noise, proprioception_BPQ=data.proprioception_BPQ)
    with torch.no_grad():
        observed = network.expert.read(network.observe(data.inputs), data.proprioception_BPQ)
        read = Conditioning(observed, noise[:, :0])
        chunk = integrate_flow(ExpertHead(network.expert, predicts), read, noise, 5)
    torch.testing.assert_close(chunk, expected, atol=1e-5, rtol=1e-5)
    assert (chunk - noise).abs().max() > 0.1


def test_a_predicted_chunk_is_where_the_last_step_ends() -> None:
    network = policy("layers_pairs", predicts="chunk", num_steps=1).eval()
    data, noise = batch(), random(2, 6, 5, seed=3)
    chunk = network.sample(data.inputs, noise, proprioception_BPQ=data.proprioception_BPQ)
    with torch.no_grad():
        read = network.expert.read(network.observe(data.inputs), data.proprioception_BPQ)
        predicted = network.expert(noise, torch.ones(2), read)
    torch.testing.assert_close(chunk, predicted)


def test_actions_that_do_not_fill_their_tokens_are_refused() -> None:
    expert = replace(EXPERTS["layers_pairs"], timesteps_per_token=4)
    config = replace(policy("layers_pairs").config, expert=expert)
    with pytest.raises(ConfigurationError, match="^timesteps_per_token: expected a divisor of "):
        VisionLanguageAction(config)


@pytest.mark.slow
@every_expert
def test_a_few_steps_learn_a_batch_and_reach_every_parameter(kind: str) -> None:
    network = policy(kind, repeats=8, input_noise=0.01)
    data = batch()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for step in range(60):
        loss = network(data, generator=torch.Generator().manual_seed(step % 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])
    unread = {name for name, p in network.named_parameters() if p.grad is None}
    # A policy has no use for words to come, nor for a token that it does not read.
    allowed = ("backbone.language.head", "backbone.language.norm", "backbone.observation_token")
    if kind == "keys_values":
        # The last block's keys and values are read, and what it does with its own queries is not.
        allowed = (*allowed, "backbone.language.transformer.blocks.1")
    assert all(name.startswith(allowed) for name in unread), unread


@every_expert
def test_checkpointed_activations_give_the_same_gradients(kind: str) -> None:
    gradients = []
    for is_checkpointed in (False, True):
        network = policy(kind, repeats=2)
        network.checkpoint_activations(is_checkpointed)
        network(batch(), generator=torch.Generator().manual_seed(0)).backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["noise", "chunk", "v"])
def test_diffusion_trains_the_same_expert(prediction: DiffusionPrediction) -> None:
    config = policy("token_add").config
    objective = DiffusionConfig(num_levels=50, prediction=prediction, repeats=8, num_steps=5)
    network = VisionLanguageAction(replace(config, objective=objective))
    data = batch()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for step in range(60):
        loss = network(data, generator=torch.Generator().manual_seed(step % 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    chunk = network.eval().sample(
        data.inputs, random(2, 6, 5), proprioception_BPQ=data.proprioception_BPQ
    )
    assert chunk.abs().max() <= 1.5


@pytest.mark.parametrize("objective", [FlowConfig(), DiffusionConfig()])
def test_known_actions_are_given_back(objective: FlowConfig | DiffusionConfig) -> None:
    config = replace(policy("token_add").config, objective=objective)
    network = VisionLanguageAction(config).eval()
    data = batch()
    chunk = network.sample(
        data.inputs,
        random(2, 6, 5),
        proprioception_BPQ=data.proprioception_BPQ,
        known_BTA=data.chunk_BTA,
        is_known_BT=data.is_known_BT,
    )
    assert torch.equal(chunk[:, 0], data.chunk_BTA[:, 0])
    assert not torch.allclose(chunk[:, 1], data.chunk_BTA[:, 1])


def test_missing_proprioception_is_no_zero() -> None:
    network = policy("token_add")
    with pytest.raises(ValueError, match="proprioception is missing"):
        network(
            replace(batch(), proprioception_BPQ=None), generator=torch.Generator().manual_seed(0)
        )


def test_an_expert_that_does_not_fit_its_backbone_names_the_field() -> None:
    shape = TransformerConfig(width=48, depth=3, num_heads=2, head_width=32, causal=False)
    config = VisionLanguageActionConfig(
        backbone=BACKBONE, expert=CrossAttentionConfig(transformer=shape), space=SPACE
    )
    with pytest.raises(ConfigurationError, match="^transformer.depth: expected the backbone's 2"):
        VisionLanguageAction(config)
    with pytest.raises(ConfigurationError, match="^transformer.causal: expected False"):
        CrossAttentionConfig(transformer=replace(shape, causal=True))
