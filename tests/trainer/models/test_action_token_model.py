"""A language model that tells actions: its loss, and what it tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainer.small_models import LANGUAGE, VISION
from trainer.action_token_configuration import ActionTokenShape
from trainer.batch_invariance import InvariantRows
from trainer.models.action.action_tokens import ActionTokenConfig, ActionTokenizer
from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.action_token_policy import ActionTokenPolicy
from trainer.models.chunk_policy import NO_TOKEN
from trainer.models.language.cross_entropy import IGNORED
from trainer.models.language.language_model import LanguageModel

IMAGE = 6
SPACE = ActionSpaceConfig(action_size=3, chunk_length=8)
CONFIG = ActionTokenConfig(scale=10, max_level=20, vocabulary_size=60)
# Of two cameras, four tokens each; prompts of other lengths, padded in front.
PROMPTS = torch.tensor(
    [
        [NO_TOKEN, NO_TOKEN, 1, *[IMAGE] * 8, 9],
        [1, 2, 3, *[IMAGE] * 8, 9],
        [NO_TOKEN, 1, 2, *[IMAGE] * 8, 7],
    ]
)


def chunks(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.15, (count, 8, 3)).cumsum(axis=1)


@pytest.fixture(scope="module")
def tokenizer() -> ActionTokenizer:
    return ActionTokenizer.fitted(CONFIG, SPACE, chunks(100, seed=0))


def network(tokenizer: ActionTokenizer, *, bidirectional_prefix: bool = True) -> ActionTokenPolicy:
    torch.manual_seed(0)
    return ActionTokenPolicy(
        ActionTokenShape(
            language=LANGUAGE,
            vision=VISION,
            bidirectional_prefix=bidirectional_prefix,
            image_size=32,
            tokens=CONFIG,
        ),
        tokenizer,
        cameras=("left", "right"),
        proprioception_size=3,
        image_token=IMAGE,
    )


def scene(count: int = 3) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = {
        name: torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
        for name in ("left", "right")
    }
    state = torch.randn(count, 3, generator=generator)
    return images, state, PROMPTS.repeat(-(-count // 3), 1)[:count]


@pytest.mark.parametrize("bidirectional_prefix", [True, False])
def test_the_loss_is_that_of_each_sample_by_itself(
    tokenizer: ActionTokenizer, bidirectional_prefix: bool
) -> None:
    policy = network(tokenizer, bidirectional_prefix=bidirectional_prefix)
    model = policy.model
    images, state, prompt = scene()
    words = policy.words(torch.from_numpy(chunks(3, seed=2)).float())
    loss = model(policy.inputs(images, prompt), state, words)
    expected, count = torch.zeros(()), 0
    for row in range(3):
        told = words[row][words[row] != IGNORED]
        assert told[-1] == model.end
        real = prompt[row][prompt[row] != NO_TOKEN][None]
        own = {name: of_camera[row : row + 1] for name, of_camera in images.items()}
        prefix, _ = model.read(policy.inputs(own, real), state[row : row + 1])
        logits = told_after(policy, prefix, told)
        expected = expected + functional.cross_entropy(logits, told, reduction="sum")
        count += len(told)
    assert count == int((words != IGNORED).sum())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    gradients = torch.autograd.grad(loss, [model.head.weight, model.embedding.weight])
    others = torch.autograd.grad(expected, [model.head.weight, model.embedding.weight])
    for got, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-4)


def told_after(policy: ActionTokenPolicy, prefix: Tensor, words: Tensor) -> Tensor:
    """Logits (N, V) of each word of one chunk after the true ones before it: block by block, with
    nothing but a matrix of who sees whom."""
    model = policy.model
    language = model.backbone.language
    assert isinstance(language, LanguageModel)
    x = torch.cat([prefix, model.embedding(words[:-1])[None]], dim=1)
    size, num_prefix = x.shape[1], prefix.shape[1]
    sees = torch.ones(size, size).tril().bool()
    if model.config.backbone.bidirectional_prefix:
        sees[:num_prefix, :num_prefix] = True
    rotation = language.transformer.rotation(None, 0, size, x.device)
    for block in language.transformer.blocks:
        attention = block.attention
        query, key, value = attention._project(block.attention_norm(x), rotation)
        score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        read = score.masked_fill(~sees, -torch.inf).softmax(-1) @ value
        x = x + attention.from_heads(read.transpose(1, 2).flatten(2))
        x = x + block.feed_forward(block.feed_forward_norm(x))
    return model.head(language.norm(x))[0, num_prefix - 1 :]


def overfitted(tokenizer: ActionTokenizer, chunk: Tensor) -> ActionTokenPolicy:
    policy = network(tokenizer)
    images, state, prompt = scene(len(chunk))
    words = policy.words(chunk)
    optimizer = torch.optim.Adam(policy.parameters(), lr=4e-3)
    for _ in range(120):
        loss = policy.model(policy.inputs(images, prompt), state, words)
        optimizer.zero_grad()
        (loss / (words != IGNORED).sum()).backward()
        optimizer.step()
    return policy.eval()


def test_it_learns_a_few_chunks_by_heart(tokenizer: ActionTokenizer) -> None:
    chunk = torch.from_numpy(chunks(6, seed=3)).float()
    policy = overfitted(tokenizer, chunk)
    images, state, prompt = scene(6)
    got = policy(images, state, torch.randn(6, 8, 3), 1, prompt)
    # Half a level is a coefficient's greatest error.
    error = (got - chunk).square().mean(dim=(1, 2)).sqrt()
    assert error.max() <= 0.5 / CONFIG.scale
    assert (policy.num_told, policy.num_malformed) == (6, 0)


def test_what_is_told_is_the_likeliest_after_what_was_told(tokenizer: ActionTokenizer) -> None:
    # Half learnt, some chunks end early and others do not.
    policy = overfitted(tokenizer, torch.from_numpy(chunks(3, seed=4)).float())
    images, state, prompt = scene(3)
    with torch.no_grad():
        told, sure = policy.tell(*policy.encode(images, state, prompt)).unbind(-1)
        words = told.long()
        ends = (words == policy.model.end).long().argmax(dim=1)
        assert len(set(ends.tolist())) > 1
        model = policy.model
        for row, end in enumerate(ends.tolist()):
            own = words[row, : end + 1]
            real = prompt[row][prompt[row] != NO_TOKEN][None]
            one = {name: of_camera[row : row + 1] for name, of_camera in images.items()}
            prefix, _ = model.read(policy.inputs(one, real), state[row : row + 1])
            log_probability = told_after(policy, prefix, own).log_softmax(dim=-1)
            assert torch.equal(log_probability.argmax(dim=-1), own)
            torch.testing.assert_close(
                log_probability.amax(dim=-1), sure[row, : end + 1], rtol=1e-4, atol=1e-4
            )
            # Nothing is told after the end.
            assert (words[row, end:] == model.end).all()
            assert (sure[row, end + 1 :] == 0).all()


def test_no_more_than_so_many_words_are_told(tokenizer: ActionTokenizer) -> None:
    policy = network(tokenizer).eval()
    images, state, prompt = scene(6)
    told = policy.tell(*policy.encode(images, state, prompt))
    assert told.shape[1] == tokenizer.most_words + 1 <= 25
    # Who has learnt nothing goes on for ever.
    assert (told[..., 0] != policy.model.end).all(dim=1).any()
    chunk, is_whole = policy.understood(told)
    assert chunk.shape == (6, 8, 3)
    assert chunk.isfinite().all()
    assert not all(is_whole)


def test_mates_of_other_lengths_change_no_bit(tokenizer: ActionTokenizer) -> None:
    policy = overfitted(tokenizer, torch.from_numpy(chunks(5, seed=5)).float())
    images, state, prompt = scene(5)

    def to_the_end(*inputs: Tensor) -> Tensor:
        return policy.tell(*inputs, to_the_end=True)

    tell = InvariantRows(policy.tell, tried=to_the_end)
    with torch.no_grad():
        parts = [
            policy.encode(
                {name: of_camera[row : row + 1] for name, of_camera in images.items()},
                state[row : row + 1],
                prompt[row : row + 1],
            )
            for row in range(5)
        ]
    alone = [tell(*part) for part in parts]
    for rows in ([0, 1], [4, 2, 0], [3, 4, 0, 1, 2]):
        together = tell(*(torch.cat(each) for each in zip(*(parts[r] for r in rows), strict=True)))
        for place, row in enumerate(rows):
            assert torch.equal(together[place], alone[row][0])
