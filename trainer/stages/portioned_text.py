"""Text too large to become tokens before the first step: it does so beside the steps.

    tokenizer.json                    the one that was given, or one trained on some of the text
    corpus/portions.json              the data's files, and which documents are held out
    corpus/held_out/                  those, as tokens
    corpus/portion_000012.safetensors tokens of a portion, packed

The first rank's processes make portions in the order in which they are learnt from, a window ahead
and no further; the others wait for the files.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainer.atomic_directory import remove_partial_directories
from trainer.atomic_file import remove_partial_files
from trainer.available_cores import available_cores
from trainer.data.errors import DataError
from trainer.data.text.corpus import Corpus, write_corpus
from trainer.data.text.packing import PackedSequence, PackedSequences
from trainer.data.text.portion_making import PortionMakers
from trainer.data.text.portion_order import MOST_PORTIONS, PortionOrder
from trainer.data.text.portion_tokens import PortionFile, PortionTokens
from trainer.data.text.portions import Portions, sized_files
from trainer.data.text.tokenizer import TextTokenizer
from trainer.data.text.vocabulary import Vocabulary
from trainer.data.windows import IntArray
from trainer.distributed import current_world
from trainer.language_configuration import LanguageTrainConfig
from trainer.learner import num_threads_of
from trainer.run_directory import RunDirectory
from trainer.stages.corpus_origin import forget_corpus
from trainer.stages.language_data import LanguageData
from trainer.stages.run_tokenizer import asked_tokenizer, run_tokenizer, texts_of
from trainer.stages.training_text import TrainingText

# Of what a tokenizer is trained on: some seconds.
_TOKENIZER_CHARACTERS = 2**24
_MOST_PROCESSES = 8
# Between looks for what another rank makes. Waiting at torch.distributed's store would hold up the
# steps, which set keys there by the same connection; and what was told there may not yet be seen on
# another node's disk.
_LOOK_AGAIN_S = 0.05
_MIB = 2.0**20


@dataclass(frozen=True, kw_only=True)
class PortionedOpening:
    """What can be looked at before anything is written. files: None where the run has its portions.

    tokenizer: that which was asked for.
    """

    config: LanguageTrainConfig
    run: RunDirectory
    files: list[tuple[str, int]] | None
    tokenizer: TextTokenizer | None

    @staticmethod
    def of(config: LanguageTrainConfig, run: RunDirectory) -> PortionedOpening | None:
        """None for data that are to be read whole. What a run began with it keeps, once it has
        saved a state; until then portions are made anew, which takes no time to speak of.

        Raises DataError, ConfigurationError; RunError for another tokenizer than the run's.
        """
        files = None
        has_begun = run.has_state()
        if not (has_begun and _path(run).exists()):
            if has_begun and (run.corpus / "training").exists():
                return None
            files = sized_files(config.data)
            if sum(size for _, size in files) <= config.portions_above_mib * _MIB:
                return None
        tokenizer = asked_tokenizer(config, run)
        return PortionedOpening(config=config, run=run, files=files, tokenizer=tokenizer)

    def prepare(self) -> LanguageData:
        """Raises DataError, ConfigurationError."""
        config, run = self.config, self.run
        is_first = current_world().is_first
        run.corpus.mkdir(exist_ok=True)
        if self.files is not None and is_first:
            forget_corpus(run)
        portions = self._portions()
        tokenizer = run_tokenizer(config, run, self.tokenizer, lambda: _some_texts(portions))
        vocabulary = Vocabulary.of(tokenizer)
        length = config.language.context_length
        tokens = PortionTokens(
            portions=portions,
            tokenizer=run.tokenizer,
            vocabulary_size=config.language.vocabulary_size,
            learnt=config.learnt,
            length=length,
            folder=run.corpus,
        )
        if is_first:
            remove_partial_directories(run.corpus)
            remove_partial_files(run.corpus)
            tokens.remove_failures()
        held_out = None
        sums = [json.dumps(tokenizer.content(), sort_keys=True), portions.digest]
        if config.validation_documents:
            folder = run.corpus / "held_out"
            if not folder.exists():
                write_corpus(portions.held_out_documents(), tokens.encoder(), folder)
            corpus = Corpus(folder)
            held_out = PackedSequences(corpus, length, pad=vocabulary.pad)
            sums.append(json.dumps(corpus.facts["sha256"]))
        processes = max(1, min(_MOST_PROCESSES, available_cores() - num_threads_of(config)))
        return LanguageData(
            vocabulary=vocabulary,
            training=PortionedText(
                tokens,
                seed=config.seed,
                pad=vocabulary.pad,
                makers=PortionMakers(tokens, processes) if is_first else None,
            ),
            held_out=held_out,
            num_held_out_documents=config.validation_documents,
            digest=hashlib.sha256("\n".join(sums).encode()).hexdigest(),
        )

    def _portions(self) -> Portions:
        path = _path(self.run)
        if path.exists():
            return Portions.read(path, self.config.data)
        assert self.files is not None
        portions = Portions.of(self.config.data, self.files, self.config.validation_documents)
        portions.write(path)
        return portions


class PortionedText(TrainingText):
    """Of portions that are made while others are learnt from. makers: None where another rank has
    them."""

    def __init__(
        self, tokens: PortionTokens, *, seed: int, pad: int, makers: PortionMakers | None
    ) -> None:
        self._tokens, self._pad, self._makers = tokens, pad, makers
        self._sizes: dict[int, tuple[int, int, int]] = {}
        self._opened = lru_cache(2 * MOST_PORTIONS)(self._open)
        self._order = PortionOrder(
            len(tokens.portions),
            seed,
            count=self._num_sequences,
            ask=self._ask,
            where=tokens.portions.place,
        )

    def sequences(self, numbers: range, batch: range) -> list[PackedSequence]:
        # Other ranks wait for what their parts of the batch need.
        self._order.find(batch[-1])
        found = [self._order.find(number) for number in numbers]
        return [self._opened(portion).sequence(index) for portion, index in found]

    def describe(self) -> str:
        portions = self._tokens.portions
        return (
            f"{portions.num_bytes / _MIB:,.0f} MiB of files in {len(portions)} portions, which "
            f"become tokens beside the steps, sequences of {self._tokens.length}"
        )

    def facts(self) -> Mapping[str, int]:
        """Of the portions that have been needed."""
        sizes = list(self._sizes.values())
        return {
            "num_documents": sum(num_documents for _, num_documents, _ in sizes),
            "num_tokens_of_data": sum(num_tokens for _, _, num_tokens in sizes),
        }

    def close(self) -> None:
        if self._makers is not None:
            self._makers.close()

    def _ask(self, portions: IntArray) -> None:
        if self._makers is not None:
            self._makers.ask(portions.tolist())

    def _num_sequences(self, portion: int) -> int:
        if portion not in self._sizes:
            self._wait(portion)
            file = self._opened(portion)
            self._sizes[portion] = (file.num_sequences, file.num_documents, file.num_tokens)
        return self._sizes[portion][0]

    def _wait(self, portion: int) -> None:
        if self._makers is not None:
            self._makers.wait(portion)
            return
        path, failure = self._tokens.path(portion), self._tokens.failure(portion)
        while not path.exists():
            if failure.exists():
                raise DataError(failure.read_text())
            time.sleep(_LOOK_AGAIN_S)

    def _open(self, portion: int) -> PortionFile:
        return PortionFile(self._tokens.path(portion), self._tokens.length, self._pad)


def _path(run: RunDirectory) -> Path:
    return run.corpus / "portions.json"


def _some_texts(portions: Portions) -> Iterator[str]:
    """Of portions that chance, but no seed, chooses: what a tokenizer is trained on."""
    num_characters = 0
    for index in portions.in_fixed_order():
        for text in texts_of(portions.training(index)):
            yield text
            num_characters += len(text)
            if num_characters >= _TOKENIZER_CHARACTERS:
                return
