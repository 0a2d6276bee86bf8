"""What the text in a run's folder was made of.

    corpus/origin.json    sums of the documents, and of the tokenizer that was asked for

A run that has saved a state is stopped by its digest where the data are others by now. One that was
killed before has made its corpus already, and goes on with it where this says that it is of the
same data.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.atomic_file import atomic_file
from trainer.data.text.documents import Document
from trainer.data.text.source import TextSource
from trainer.data.text.tokenizer import TextTokenizer
from trainer.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class CorpusOrigin:
    """tokenizer: None where it is trained on the documents, or not known yet."""

    documents: str
    tokenizer: str | None

    @staticmethod
    def of(
        source: TextSource,
        tokenizer: TextTokenizer | None,
        progress: Callable[[Iterator[int]], Iterable[int]],
    ) -> CorpusOrigin:
        """Reads all documents, with their pictures. Raises DataError."""
        total = hashlib.sha256()
        for index in progress(iter(range(len(source)))):
            total.update(_digest(source.document(index)))
        words = None
        if tokenizer is not None:
            content = json.dumps(tokenizer.content(), sort_keys=True)
            words = hashlib.sha256(content.encode()).hexdigest()
        return CorpusOrigin(documents=total.hexdigest(), tokenizer=words)

    @staticmethod
    def stored(run: RunDirectory) -> CorpusOrigin | None:
        """None where nothing is there that could be relied on."""
        try:
            return CorpusOrigin(**json.loads(_path(run).read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def store(self, run: RunDirectory) -> None:
        """After the tokenizer, and before the corpora: without it all of them are made anew."""
        with atomic_file(_path(run)) as file:
            file.write(json.dumps(asdict(self), indent=2).encode() + b"\n")


def forget_corpus(run: RunDirectory) -> None:
    """With the tokenizer of its text."""
    # First: what is left when this is killed is of nothing that is known.
    _path(run).unlink(missing_ok=True)
    shutil.rmtree(run.corpus, ignore_errors=True)
    run.tokenizer.unlink(missing_ok=True)
    run.corpus.mkdir(exist_ok=True)


def _digest(document: Document) -> bytes:
    parts = [
        "" if document.text is None else document.text,
        "" if document.tokens is None else json.dumps(document.tokens.tolist()),
        *(json.dumps(asdict(turn)) for turn in document.turns),
        *(hashlib.sha256(picture).hexdigest() for picture in document.images),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _path(run: RunDirectory) -> Path:
    return run.corpus / "origin.json"
