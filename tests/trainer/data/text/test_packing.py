"""What is learnt, what shares a sequence, and that sample n is always the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from trainer.data.errors import DataError
from trainer.data.sampling import Mixture, Source
from trainer.data.text.chat import ChatTemplate, HubChatTemplate
from trainer.data.text.corpus import Corpus, write_corpus
from trainer.data.text.documents import Document, Turn
from trainer.data.text.encoding import EncodedDocument, Encoder, pieces
from trainer.data.text.packing import IGNORED, PackedSequences, pack
from trainer.data.text.source import TextSource
from trainer.data.text.sources import open_source
from trainer.data.text.streaming import HubStream, ShuffledStream, StreamPacker
from trainer.data.text.tokenizer import END, PAD, TextTokenizer, train_tokenizer

TURNS = (
    Turn(role="user", text="How many mugs?", num_images=1),
    Turn(role="assistant", text="Two."),
    Turn(role="user", text="And plates?"),
    Turn(role="assistant", text="None."),
)


@pytest.fixture
def source(tmp_path: Path, texts: list[str], write_lines: Callable[..., Path]) -> TextSource:
    return open_source(write_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts]))


@pytest.fixture
def corpus(tmp_path: Path, source: TextSource, encoder: Encoder) -> Corpus:
    return write_corpus(source, encoder, tmp_path / "corpus")


# Tokenizer


def test_any_text_comes_back_from_its_tokens(tokenizer: TextTokenizer) -> None:
    for text in ("A mug.", "äöü 日本語 🙂", " two  spaces\n\ttab", "<|end|> spelt out"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    # What a document spells is no special token.
    assert tokenizer.special(END) not in tokenizer.encode("<|end|>")


def test_the_same_texts_give_the_same_tokenizer(
    tmp_path: Path, tokenizer: TextTokenizer, texts: list[str]
) -> None:
    again = train_tokenizer(texts, 512, tmp_path / "tokenizer.json")
    assert again.content() == tokenizer.content()
    assert again.vocabulary_size == 512
    # Of its own texts it needs far fewer tokens than bytes.
    assert len(again.encode(texts[0])) < 0.6 * len(texts[0].encode())


@pytest.mark.parametrize(("texts", "size"), [([], 512), (["a"], 100)])
def test_a_tokenizer_of_nothing_is_an_error(tmp_path: Path, texts: list[str], size: int) -> None:
    with pytest.raises(DataError):
        train_tokenizer(texts, size, tmp_path / "tokenizer.json")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_tokenizer_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: no tokenizer"):
        TextTokenizer(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        TextTokenizer(tmp_path / "missing.json")


# Loss masks


def test_only_answers_and_their_ends_are_learnt(encoder: Encoder, tokenizer: TextTokenizer) -> None:
    document = Document(where="a", turns=TURNS, images=(b"x",))
    encoded = encoder.encode(document)
    assert tokenizer.decode(encoded.token[encoded.learnt].tolist()) == "Two.None."
    ends = encoded.token[encoded.learnt] == tokenizer.special(END)
    assert ends.sum() == 2
    assert encoded.image_start.tolist() == [2]
    assert encoded.tokens_per_image == 4


def test_all_but_pictures_is_learnt_where_that_is_asked(tokenizer: TextTokenizer) -> None:
    template = ChatTemplate(tokenizer, 4)
    encoder = Encoder(template=template, vocabulary_size=tokenizer.vocabulary_size, learnt="text")
    encoded = encoder.encode(Document(where="a", turns=TURNS, images=(b"x",)))
    np.testing.assert_array_equal(encoded.learnt, encoded.token != template.image_token)


def test_tokens_of_another_tokenizer_are_told(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="line 4: tokens from 3 to 9999.*another tokenizer's"):
        encoder.encode(Document(where="a.jsonl, line 4", tokens=np.array([3, 9999])))


def hub_tokenizer(tokenizer: TextTokenizer, template: str | None) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(tokenizer.content())),
        chat_template=template,
        eos_token=END,
        unk_token=PAD,
    )


# ChatML, as Qwen and SmolLM have it.
CHATML = (
    "{% for m in messages %}<|begin|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|begin|>assistant\n{% endif %}"
)


def test_a_transformers_template_marks_the_answers(tokenizer: TextTokenizer) -> None:
    template = HubChatTemplate(
        hub_tokenizer(tokenizer, CHATML), image="<|image|>", tokens_per_image=3
    )
    encoder = Encoder(template=template, vocabulary_size=tokenizer.vocabulary_size)
    encoded = encoder.encode(Document(where="a", turns=TURNS, images=(b"x",)))
    assert tokenizer.decode(encoded.token[encoded.learnt].tolist()) == "Two.\nNone.\n"
    assert encoded.tokens_per_image == 3


def test_a_prompt_is_what_comes_before_the_answer(tokenizer: TextTokenizer) -> None:
    hub = HubChatTemplate(hub_tokenizer(tokenizer, CHATML), image="<|image|>", tokens_per_image=4)
    for template in (ChatTemplate(tokenizer, 4), hub):
        whole, said = template.encode_turns(TURNS, "a")
        prompt = template.encode_prompt(TURNS[:3])
        assert whole[: len(prompt)] == prompt
        # From there on all is said by the assistant.
        assert all(said[len(prompt) :])
        assert not said[len(prompt) - 1]


def test_a_template_that_cannot_be_marked_is_refused(tokenizer: TextTokenizer) -> None:
    # It counts the turns in front: what came before changes with every turn.
    template = HubChatTemplate(hub_tokenizer(tokenizer, "{{ messages | length }}" + CHATML))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: the tokenizer's chat template changes"):
        template.encode_turns(TURNS[2:], "a.jsonl, line 2")
    with pytest.raises(DataError, match="no chat template"):
        HubChatTemplate(hub_tokenizer(tokenizer, None))
    with pytest.raises(DataError, match="no token '<picture>'"):
        HubChatTemplate(hub_tokenizer(tokenizer, CHATML), image="<picture>")


# Packing


@hypothesis.given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12), length=st.integers(4, 40)
)
def test_pieces_are_the_document_in_order(lengths: list[int], length: int) -> None:
    for size in lengths:
        document = EncodedDocument(
            token=np.arange(size, dtype=np.int32),
            learnt=np.ones(size, bool),
            image_start=np.zeros(0, np.int64),
        )
        cuts = pieces(document, length, "split", "a")
        # Nothing is lost but single tokens, from which nothing can be learnt.
        covered = np.concatenate([np.arange(*cut) for cut in cuts] + [np.zeros(0, int)])
        expected = [n for n in range(size) if not (n == size - 1 and n % length == 0)]
        assert covered.tolist() == expected
        assert all(stop - start <= length for start, stop in cuts)


def test_a_cut_never_goes_through_a_picture() -> None:
    document = EncodedDocument(
        token=np.zeros(20, np.int32),
        learnt=np.arange(20) % 2 == 1,
        image_start=np.array([6, 13]),
        tokens_per_image=4,
    )
    assert pieces(document, 8, "split", "a") == [(0, 6), (6, 13), (13, 20)]
    assert pieces(document, 8, "truncate", "a") == [(0, 6)]
    with pytest.raises(DataError, match="a, line 3: 20 tokens, but a sequence has 8"):
        pieces(document, 8, "refuse", "a, line 3")
    with pytest.raises(DataError, match="a picture has 4 tokens, but a sequence 3"):
        pieces(document, 3, "split", "a")


def test_packed_documents_are_each_alone(corpus: Corpus) -> None:
    packed = PackedSequences(corpus, 128, pad=0)
    assert packed.filled > 0.9
    for index in range(len(packed)):
        sequence = packed.sequence(index)
        starts = sequence.boundaries[:-1]
        assert (sequence.position[starts] == 0).all()
        assert np.flatnonzero(np.diff(sequence.document)).tolist() == [
            end - 1 for end in sequence.boundaries[1:] if end < 128
        ]
        steps = np.diff(sequence.position)[np.diff(sequence.document) == 0]
        assert (steps == 1).all()
        learnt = np.flatnonzero(sequence.label != IGNORED)
        # A label is the next token of the same document.
        np.testing.assert_array_equal(sequence.label[learnt], sequence.token[learnt + 1])
        np.testing.assert_array_equal(sequence.document[learnt], sequence.document[learnt + 1])
        assert (sequence.label[~sequence.valid] == IGNORED).all()
        assert (sequence.token[~sequence.valid] == 0).all()


def test_every_token_of_the_corpus_is_in_one_sequence(corpus: Corpus) -> None:
    packed = PackedSequences(corpus, 64, pad=0, seed=3)
    seen = [packed.sequence(index) for index in range(len(packed))]
    counted = np.bincount(np.concatenate([one.token[one.valid] for one in seen]), minlength=512)
    expected = np.zeros(512, np.int64)
    for index in range(len(corpus)):
        document = corpus.document(index)
        for start, stop in pieces(document, 64, "split", ""):
            expected += np.bincount(document.token[start:stop], minlength=512)
    np.testing.assert_array_equal(counted, expected)


def test_sample_n_is_the_same_whoever_asks(corpus: Corpus, source: TextSource) -> None:
    def sample(number: int) -> list[int]:
        packed = PackedSequences(Corpus(corpus.folder, source), 96, pad=0, seed=5)
        mixture = Mixture([Source(name="text", num_samples=len(packed))], seed=9)
        return packed.sequence(int(mixture.samples(number).index)).token.tolist()

    assert [sample(n) for n in (3, 250, 3)] == [sample(n) for n in (3, 250, 3)]
    assert sample(3) != sample(4)


def test_another_seed_packs_other_neighbours(corpus: Corpus) -> None:
    first, second = (PackedSequences(corpus, 128, pad=0, seed=seed) for seed in (0, 1))
    assert first.sequence(0).token.tolist() != second.sequence(0).token.tolist()


def test_attention_stays_within_a_document(corpus: Corpus) -> None:
    """As the language model reads it: a change in one document moves nothing in the others."""
    import torch

    from trainer.models.language.masks import AttentionMask

    sequence = PackedSequences(corpus, 64, pad=0).sequence(0)
    document = torch.from_numpy(sequence.document)[None]
    allowed = AttentionMask(document_BK=document).dense(64, 64, torch.device("cpu"))[0].numpy()
    same = sequence.document[:, None] == sequence.document[None]
    np.testing.assert_array_equal(allowed, same & np.tri(64, dtype=bool))


def test_pictures_follow_their_place_holders(
    tmp_path: Path, encoder: Encoder, png: Callable[[int], bytes], write_lines: Callable[..., Path]
) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    records = [{"image": f"{n}.png", "caption": f"Number {n}."} for n in range(6)]
    source = open_source(write_lines(tmp_path / "a.jsonl", records))
    corpus = write_corpus(source, encoder, tmp_path / "corpus")
    packed = PackedSequences(corpus, 48, pad=0)
    seen: list[bytes] = []
    for index in range(len(packed)):
        sequence = packed.sequence(index)
        held = (sequence.token == encoder.template.image_token).sum()
        assert held == 4 * len(sequence.images)
        assert (sequence.label != encoder.template.image_token).all()
        seen += sequence.images
    assert sorted(seen) == sorted(png(number) for number in range(6))
    with pytest.raises(DataError, match="images need the source"):
        Corpus(corpus.folder).images(0)


# The corpus on disk


def test_a_broken_line_leaves_no_corpus(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    source = open_source(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: not JSON"):
        write_corpus(source, encoder, tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_corpus_of_nothing_to_learn_is_an_error(
    tmp_path: Path, encoder: Encoder, write_lines: Callable[..., Path]
) -> None:
    turns = [{"role": "user", "content": "Is anybody there?"}]
    source = open_source(write_lines(tmp_path / "a.jsonl", [{"messages": turns}]))
    with pytest.raises(DataError, match="nothing that would be learnt"):
        write_corpus(source, encoder, tmp_path / "corpus")


@pytest.mark.parametrize("facts", ["[]", "{}", '{"schema": "assay.text-corpus/1"}', "[" * 100_000])
def test_a_folder_that_is_no_corpus_is_told(tmp_path: Path, facts: str) -> None:
    (tmp_path / "corpus.json").write_text(facts)
    with pytest.raises(DataError, match=str(tmp_path)):
        Corpus(tmp_path)


def test_a_corpus_that_lacks_a_file_is_told(corpus: Corpus) -> None:
    (corpus.folder / "document.npy").unlink()
    with pytest.raises(DataError, match=r"document\.npy"):
        Corpus(corpus.folder)


def test_a_damaged_corpus_is_told(corpus: Corpus) -> None:
    corpus.verify()
    tokens = corpus.folder / "token.bin"
    content = bytearray(tokens.read_bytes())
    content[10] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(DataError, match=r"token\.bin: its checksum differs"):
        Corpus(corpus.folder).verify()
    tokens.write_bytes(content[:-4])
    with pytest.raises(DataError, match=r"token\.bin: expected \d+ bytes, got"):
        Corpus(corpus.folder)


# Streams


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_stream_goes_on_exactly_where_it_stopped(
    source: TextSource, encoder: Encoder, stop: int
) -> None:
    def packer() -> StreamPacker:
        return StreamPacker(ShuffledStream(source, seed=4), encoder, 64, pad=0)

    whole = packer()
    expected = [next(whole).token.tolist() for _ in range(stop + 5)]
    first = packer()
    for _ in range(stop):
        next(first)
    state = json.loads(json.dumps(first.state()))
    second = packer()
    second.restore(state)
    assert [next(second).token.tolist() for _ in range(5)] == expected[stop:]


def test_a_stream_of_nothing_is_an_error(
    tmp_path: Path, encoder: Encoder, write_lines: Callable[..., Path]
) -> None:
    pytest.importorskip("datasets", reason="datasets is an optional package")
    turns = [{"role": "user", "content": "Is anybody there?"}]
    path = write_lines(tmp_path / "a.jsonl", [{"messages": turns}])
    stream = HubStream("json", data_files=[str(path)])
    with pytest.raises(DataError, match="nothing to learn"):
        next(StreamPacker(stream, encoder, 64, pad=0))


def test_a_stream_of_datasets_goes_on_where_it_stopped(
    tmp_path: Path, encoder: Encoder, texts: list[str], write_lines: Callable[..., Path]
) -> None:
    pytest.importorskip("datasets", reason="datasets is an optional package")
    path = write_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts])

    def packer() -> StreamPacker:
        return StreamPacker(HubStream("json", data_files=[str(path)]), encoder, 64, pad=0)

    expected = [one.token.tolist() for one in packer()]
    assert len(expected) > 20
    first = packer()
    for _ in range(9):
        next(first)
    second = packer()
    second.restore(json.loads(json.dumps(first.state())))
    assert [one.token.tolist() for one in second] == expected[9:]


def test_without_datasets_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        HubStream("HuggingFaceFW/fineweb")


def test_packing_takes_documents_that_fit() -> None:
    document = EncodedDocument(
        token=np.array([5, 6, 7], np.int32),
        learnt=np.array([True, False, True]),
        image_start=np.zeros(0, np.int64),
    )
    packed = pack([(document, 0, 3), (document, 1, 3)], 7, pad=9)
    assert packed.token.tolist() == [5, 6, 7, 6, 7, 9, 9]
    assert packed.label.tolist() == [IGNORED, 7, IGNORED, 7, IGNORED, IGNORED, IGNORED]
    assert packed.document.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert packed.position.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert packed.boundaries.tolist() == [0, 3, 5]
    assert packed.valid.tolist() == [True] * 5 + [False] * 2
