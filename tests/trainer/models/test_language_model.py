"""The language model against transformers' Llama, its cache, its masks and its draws."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.models.language.configuration import LanguageConfig, QueryKeyNorm, TransformerConfig
from trainer.models.language.cross_entropy import IGNORED, next_token_labels
from trainer.models.language.generation import GenerationConfig, generate, next_token
from trainer.models.language.language_model import LanguageModel
from trainer.models.language.masks import AttentionMask
from trainer.requirements import ConfigurationError

transformers = pytest.importorskip("transformers")

VOCABULARY = 61
SHAPE = TransformerConfig(width=48, depth=3, num_heads=4, num_key_value_heads=2)


def tokens(num_samples: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (num_samples, length), generator=generator)


def language_model(shape: TransformerConfig = SHAPE, **rest: object) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(
        LanguageConfig(transformer=shape, vocabulary_size=VOCABULARY, **rest)  # type: ignore[arg-type]
    )


def as_llama(model: LanguageModel) -> Any:
    """transformers' Llama with the same weights."""
    shape = model.config.transformer
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=shape.width,
            intermediate_size=shape.hidden_width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_groups,
            rms_norm_eps=shape.norm_epsilon,
        )
    ).eval()
    state = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.head.weight,
    }
    key_width = shape.num_groups * shape.width_of_head
    for index, block in enumerate(model.transformer.blocks):
        name = f"model.layers.{index}."
        query, key, value = block.attention.to_qkv.weight.split(
            [shape.num_heads * shape.width_of_head, key_width, key_width]
        )
        gate, up = block.feed_forward.to_hidden.weight.chunk(2)
        state |= {
            name + "self_attn.q_proj.weight": query,
            name + "self_attn.k_proj.weight": key,
            name + "self_attn.v_proj.weight": value,
            name + "self_attn.o_proj.weight": block.attention.from_heads.weight,
            name + "mlp.gate_proj.weight": gate,
            name + "mlp.up_proj.weight": up,
            name + "mlp.down_proj.weight": block.feed_forward.from_hidden.weight,
            name + "input_layernorm.weight": block.attention_norm.weight,
            name + "post_attention_layernorm.weight": block.feed_forward_norm.weight,
        }
    llama.load_state_dict(state)
    return llama


def test_logits_loss_and_gradients_are_llamas() -> None:
    model = language_model()
    llama = as_llama(model)
    token = tokens(2, 19)
    theirs = llama(input_ids=token, labels=token)
    ours = model(token, label_BS=next_token_labels(token))
    assert ours.loss is not None
    torch.testing.assert_close(model.logits(ours.hidden_BSD), theirs.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss.loss, theirs.loss)
    ours.loss.loss.backward()
    theirs.loss.backward()
    for name, mine in (
        ("model.embed_tokens.weight", model.embedding.weight),
        ("lm_head.weight", model.head.weight),
        (
            "model.layers.0.self_attn.o_proj.weight",
            next(iter(model.transformer.blocks)).attention.from_heads.weight,
        ),
    ):
        torch.testing.assert_close(
            mine.grad,
            llama.get_parameter(name).grad,
            atol=1e-6,
            rtol=1e-4,
        )


@pytest.mark.parametrize("kind", ["none", "per_head", "full_width"])
def test_a_cache_changes_nothing(kind: QueryKeyNorm) -> None:
    shape = TransformerConfig(
        width=48,
        depth=2,
        num_heads=4,
        num_key_value_heads=2,
        qk_norm=kind,
        norm="layer",  # type: ignore[arg-type]
    )
    model = language_model(shape, post_embed_norm=True, tied_weights=True).eval()
    token = tokens(2, 12)
    whole = model(token).hidden_BSD
    cache = model.new_cache(2, 12)
    # A prompt, several tokens at once behind it, and one at a time.
    parts = [token[:, a:b] for a, b in itertools.pairwise([0, 5, 9, 10, 11, 12])]
    pieces = [model(part, cache=cache).hidden_BSD for part in parts]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="12 positions; 13"):
        model(token[:, :1], cache=cache)


def test_packed_documents_are_separate_ones() -> None:
    model = language_model()
    first, second = tokens(1, 7), tokens(1, 5, seed=1)
    packed = torch.cat([first, second], dim=1)
    document = torch.tensor([[0] * 7 + [1] * 5])
    position = torch.cat([torch.arange(7), torch.arange(5)])[None]
    label = next_token_labels(packed, document_BS=document)
    assert label[0, 6] == IGNORED
    together = model(
        packed,
        label_BS=label,
        mask=AttentionMask(document_BK=document),
        position_BS=position,
    )
    alone = [model(part, label_BS=next_token_labels(part)) for part in (first, second)]
    torch.testing.assert_close(
        together.hidden_BSD, torch.cat([a.hidden_BSD for a in alone], dim=1), atol=1e-5, rtol=1e-5
    )
    assert together.loss is not None
    assert int(together.loss.num_counted) == 10
    mean = (6 * alone[0].loss.loss + 4 * alone[1].loss.loss) / 10
    torch.testing.assert_close(together.loss.loss, mean)


def test_checkpointed_activations_give_the_same_gradients() -> None:
    token = tokens(2, 9)
    gradients = []
    for is_checkpointed in (False, True):
        model = language_model()
        model.transformer.checkpoint_activations(is_checkpointed)
        loss = model(token, label_BS=next_token_labels(token)).loss
        assert loss is not None
        loss.loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


def test_bfloat16_sees_the_positions_that_float32_sees() -> None:
    # Frequencies rounded to bfloat16 move position 2000 by up to 0.4 % of its angle: radians.
    shape = TransformerConfig(width=64, depth=1, num_heads=1)
    position = torch.tensor([[2000]])
    exact = language_model(shape).transformer.rotation(position, 0, 1, torch.device("cpu"))
    cast = (
        language_model(shape).bfloat16().transformer.rotation(position, 0, 1, torch.device("cpu"))
    )
    assert exact is not None
    assert cast is not None
    assert cast.cosine.dtype == torch.float32
    assert torch.equal(exact.cosine, cast.cosine)
    assert torch.equal(exact.sine, cast.sine)


def test_greedy_generation_is_llamas() -> None:
    model = language_model().eval()
    llama = as_llama(model)
    prompt = tokens(2, 6)
    theirs = llama.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    ours = generate(model, prompt, GenerationConfig(max_new_tokens=8, temperature=0))
    assert torch.equal(ours, theirs[:, 6:])


def test_a_padded_prompt_continues_as_an_unpadded_one() -> None:
    model = language_model().eval()
    short, long = tokens(1, 4), tokens(1, 7, seed=1)
    padded = torch.cat([torch.cat([torch.zeros(1, 3, dtype=torch.long), short], dim=1), long])
    valid = torch.tensor([[False] * 3 + [True] * 4, [True] * 7])
    config = GenerationConfig(max_new_tokens=6, temperature=0)
    together = generate(model, padded, config, valid_BS=valid)
    assert torch.equal(together[:1], generate(model, short, config))
    assert torch.equal(together[1:], generate(model, long, config))
    with pytest.raises(ValueError, match="pad in front"):
        generate(model, padded, config, valid_BS=valid.flip(1))


def test_generation_is_seeded_and_stops() -> None:
    model = language_model().eval()
    prompt = tokens(3, 4)
    config = GenerationConfig(max_new_tokens=12, seed=3)
    first, again = (generate(model, prompt, config) for _ in range(2))
    assert torch.equal(first, again)
    other = generate(model, prompt, GenerationConfig(max_new_tokens=12, seed=4))
    assert not torch.equal(first, other)
    stop = int(first[0, 2])
    stopped = generate(model, prompt, GenerationConfig(max_new_tokens=12, seed=3, stop_token=stop))
    begin = int((stopped[0] == stop).nonzero()[0])
    assert (stopped[0, begin:] == stop).all()


def test_top_k_and_top_p_cut_what_they_say() -> None:
    probability = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])
    logits = probability.log().expand(4000, -1)

    def drawn(config: GenerationConfig) -> Tensor:
        draws = next_token(logits, config, torch.Generator().manual_seed(0))
        return torch.bincount(draws, minlength=5) / 4000

    # Three standard deviations of a share of 4000 draws are at most 0.024.
    whole = drawn(GenerationConfig())
    torch.testing.assert_close(whole, probability, atol=0.024, rtol=0)
    top_2 = drawn(GenerationConfig(top_k=2))
    torch.testing.assert_close(top_2, torch.tensor([2, 1, 0, 0, 0]) / 3, atol=0.024, rtol=0)
    # 0.5 + 0.25 reach 0.7: the third is out. 0.8 needs the third.
    assert (drawn(GenerationConfig(top_p=0.7)) > 0).tolist() == [True, True, False, False, False]
    assert (drawn(GenerationConfig(top_p=0.8)) > 0).tolist() == [True, True, True, False, False]
    cold = drawn(GenerationConfig(temperature=0.5))
    torch.testing.assert_close(cold, probability**2 / (probability**2).sum(), atol=0.024, rtol=0)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"width": 50}, "width"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_width": 5}, "head_width"),
        ({"depth": 0}, "depth"),
        ({"norm": "batch"}, "norm"),
    ],
)
def test_a_shape_that_cannot_be_names_its_field(fields: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: expected"):
        TransformerConfig(**({"width": 48, "depth": 1, "num_heads": 4} | fields))  # type: ignore[arg-type]


def test_each_part_of_a_network_is_compiled_however_many_there_are() -> None:
    """All blocks are one function to torch, which otherwise leaves it as it is after eight."""

    def run() -> None:
        # Of the thread's own, as all that is configured of the compiler.
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        for model in models:
            model(tokens(1, 3))
            with torch.no_grad():
                model(tokens(1, 3))

    models = [
        language_model(TransformerConfig(width=16 * heads, depth=1, num_heads=heads))
        for heads in range(1, 6)
    ]
    for model in models:
        model.compile_blocks(backend="eager", dynamic=False)
    with ThreadPoolExecutor() as threads:
        threads.submit(run).result()
