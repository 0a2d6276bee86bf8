"""The text of a run: which documents are learnt from, in which tokens, in which sequences.

Text becomes tokens once and stays beside the run:

    tokenizer.json        the one that was given, or one that was trained on the text
    corpus/training/      documents as tokens
    corpus/held_out/      those that are measured and never learnt from
    corpus/is_held_out.npy    which of the data's documents these are, where there are pictures
    corpus/origin.json    of which data all of it is, see `corpus_origin`

A run that goes on reads these, and of the data only the pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from trainer.atomic_directory import remove_partial_directories
from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError
from trainer.data.sampling import permuted
from trainer.data.text.corpus import Corpus, write_corpus
from trainer.data.text.encoding import Encoder
from trainer.data.text.packing import PackedSequences
from trainer.data.text.shared_pictures import joined_by_pictures
from trainer.data.text.source import ChosenDocuments, TextSource
from trainer.data.text.sources import open_source
from trainer.data.text.tokenizer import TextTokenizer
from trainer.data.text.vocabulary import Vocabulary
from trainer.distributed import current_world
from trainer.language_configuration import TextTrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory
from trainer.stages.corpus_origin import CorpusOrigin, forget_corpus
from trainer.stages.run_tokenizer import asked_tokenizer, run_tokenizer, texts_of
from trainer.stages.training_text import TrainingText, WholeText

# The same documents are held out in all runs on the same data.
_HELD_OUT_STREAM = 11


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageData:
    """digest: of all that is learnt from, and of what its tokens mean. shown: the documents that
    are held out, where they have pictures."""

    vocabulary: Vocabulary
    training: TrainingText
    held_out: PackedSequences | None
    num_held_out_documents: int
    digest: str
    shown: TextSource | None = None


@dataclass(frozen=True, kw_only=True)
class TextOpening:
    """What can be looked at before anything is written. source: None where the run has a corpus.

    has_begun: whether a state was saved of what was learnt. tokenizer: that which was asked for.
    """

    config: TextTrainConfig
    run: RunDirectory
    has_begun: bool
    source: TextSource | None
    tokenizer: TextTokenizer | None

    @staticmethod
    def of(
        config: TextTrainConfig,
        run: RunDirectory,
        tokenizer: TextTokenizer | None = None,
        *,
        has_begun: bool,
    ) -> TextOpening:
        """tokenizer: that of what the run begins with; None for that of the configuration.
        has_begun: whether a state was saved, perhaps in another folder than `run`.

        Raises DataError, ConfigurationError; RunError for another tokenizer than the run's.
        """
        tokenizer = asked_tokenizer(config, run, tokenizer)
        names = ["training"] + ["held_out"] * bool(config.validation_documents)
        is_made = has_begun and all((run.corpus / name).exists() for name in names)
        # Pictures stay in the data.
        if is_made and not config.tokens_per_image:
            return TextOpening(
                config=config, run=run, has_begun=has_begun, source=None, tokenizer=tokenizer
            )
        source = open_source(config.data)
        if config.validation_documents >= len(source):
            raise ConfigurationError(
                f"validation_documents: expected fewer than the {len(source)} documents of "
                f"{config.data}, got {config.validation_documents}; 0 holds none out"
            )
        return TextOpening(
            config=config, run=run, has_begun=has_begun, source=source, tokenizer=tokenizer
        )

    def texts(self) -> Iterator[str]:
        """What is learnt from, as text, for a tokenizer that is yet to be made. Raises DataError
        for data that are tokens already."""
        self.run.corpus.mkdir(exist_ok=True)
        self._forget_other_data(whatever_words=True)
        return self._texts()

    def _texts(self) -> Iterator[str]:
        return texts_of(self._chosen("training"))

    def prepare(self) -> LanguageData:
        """Make what is missing beside the run, and open it. Raises DataError."""
        config, run = self.config, self.run
        run.corpus.mkdir(exist_ok=True)
        remove_partial_directories(run.corpus)
        held_out = None
        origin = self._forget_other_data()
        tokenizer = run_tokenizer(config, run, self.tokenizer, self._texts)
        if origin is not None:
            origin.store(run)
        vocabulary = Vocabulary.of(tokenizer, config.tokens_per_image, config.chat)
        training = self._corpus("training", vocabulary)
        if training.num_tokens < config.language.context_length:
            raise ConfigurationError(
                f"{config.language_field}.context_length: expected at most {training.num_tokens}, "
                f"which is all the tokens that {config.data} has to learn from, got "
                f"{config.language.context_length}"
            )
        corpora = [training]
        if config.validation_documents:
            corpora.append(self._corpus("held_out", vocabulary))
            held_out = self._packed(corpora[1], vocabulary)
        content = json.dumps(vocabulary.tokenizer.content(), sort_keys=True)
        sums = [content, *(json.dumps(one.facts["sha256"]) for one in corpora)]
        if config.tokens_per_image:
            sums += [self._picture_sum(name) for name in ("training", "held_out")[: len(corpora)]]
        return LanguageData(
            vocabulary=vocabulary,
            training=WholeText(
                training, self._packed(training, vocabulary), name=config.data, seed=config.seed
            ),
            held_out=held_out,
            num_held_out_documents=0 if held_out is None else len(corpora[1]),
            digest=hashlib.sha256("\n".join(sums).encode()).hexdigest(),
            shown=self._chosen("held_out") if config.tokens_per_image and held_out else None,
        )

    def _forget_other_data(self, *, whatever_words: bool = False) -> CorpusOrigin | None:
        """Where nothing was saved, what is there of other data goes, or of other words.

        The origin that is to be stored, if any.
        """
        if self.has_begun or not current_world().is_first:
            return None
        assert self.source is not None
        found = CorpusOrigin.of(
            self.source, self.tokenizer, lambda numbers: _shown(numbers, "all documents")
        )
        stored = CorpusOrigin.stored(self.run)
        if stored is not None and whatever_words:
            stored = replace(stored, tokenizer=found.tokenizer)
        if found == stored:
            return None
        forget_corpus(self.run)
        return found

    def _packed(self, corpus: Corpus, vocabulary: Vocabulary) -> PackedSequences:
        return PackedSequences(corpus, self.config.language.context_length, pad=vocabulary.pad)

    def _picture_sum(self, name: str) -> str:
        """Of all pictures' bytes: they stay in the data, and so may be others by now."""
        documents = self._chosen(name)
        total = hashlib.sha256()
        for index in _shown(iter(range(len(documents))), f"{name} pictures"):
            for picture in documents.document(index).images:
                total.update(hashlib.sha256(picture).digest())
        return total.hexdigest()

    def _corpus(self, name: str, vocabulary: Vocabulary) -> Corpus:
        folder = self.run.corpus / name
        if folder.exists():
            return Corpus(folder, self._chosen(name) if self.config.tokens_per_image else None)
        encoder = Encoder(
            template=vocabulary.template,
            vocabulary_size=self.config.language.vocabulary_size,
            learnt=self.config.learnt,
        )

        def shown(numbers: Iterator[int]) -> Iterable[int]:
            return _shown(numbers, f"{name} text")

        return write_corpus(self._chosen(name), encoder, folder, progress=shown)

    def _chosen(self, name: str) -> ChosenDocuments:
        source = self.source or open_source(self.config.data)
        is_held_out = self._is_held_out(source)
        wanted = is_held_out if name == "held_out" else ~is_held_out
        return ChosenDocuments(source, np.flatnonzero(wanted).tolist())

    def _is_held_out(self, source: TextSource) -> npt.NDArray[np.bool_]:
        """By document. Of a picture all documents are held out or none, lest what was learnt about
        it be measured, and of pictures that documents show together, too; so they may be some more
        than were asked for."""
        count = self.config.validation_documents
        if not self.config.tokens_per_image:
            return permuted(np.arange(len(source)), len(source), 0, _HELD_OUT_STREAM) < count
        path = self.run.corpus / "is_held_out.npy"
        if path.exists():
            is_held_out = np.load(path)
            if is_held_out.shape != (len(source),):
                raise DataError(
                    f"expected {len(is_held_out)} documents, as when the run began, got "
                    f"{len(source)}",
                    where=source.where,
                )
            return is_held_out
        _, group, sizes = np.unique(
            joined_by_pictures(source), return_inverse=True, return_counts=True
        )
        places = permuted(np.arange(len(sizes)), len(sizes), 0, _HELD_OUT_STREAM)
        order = np.argsort(places)
        before = np.cumsum(sizes[order]) - sizes[order]
        is_held_out = np.isin(group, order[before < count])
        if is_held_out.all():
            raise ConfigurationError(
                f"validation_documents: expected fewer, so that a picture of {self.config.data} is "
                f"left to learn from, got {count}"
            )
        with atomic_file(path) as file:
            np.save(file, is_held_out)
        return is_held_out


def _shown(numbers: Iterator[int], what: str) -> Iterable[int]:
    return tqdm(numbers, desc=what, unit="document", disable=None, leave=False)
