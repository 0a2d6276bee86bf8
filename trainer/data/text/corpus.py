"""Documents encoded once and kept as tokens: any of them is read in no time, in little memory.

A folder of flat arrays, mapped and not loaded:

    token.bin        int32, of all documents, one after the other
    learnt.bin       bool, likewise
    document.npy     (D + 1,) int64, where each begins; the last is where the last one ends
    image.npy        (P, 3) int64: document, place of its first token, number within the document
    corpus.json      what it was made of, and sums of the files
    tokenizer.json   where it was ours

Pictures stay where they are; they are read from the source when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainer.atomic_directory import atomic_directory
from trainer.data.errors import DataError
from trainer.data.text.chat import ChatTemplate
from trainer.data.text.encoding import EncodedDocument, Encoder
from trainer.data.text.source import TextSource

_SCHEMA = "assay.text-corpus/1"
_FILES = ("token.bin", "learnt.bin", "document.npy", "image.npy")


def write_corpus(
    source: TextSource,
    encoder: Encoder,
    folder: Path,
    *,
    progress: Callable[[Iterator[int]], Any] = iter,
) -> Corpus:
    """Whole or not at all. progress wraps the documents' numbers.

    Raises DataError naming the file and line of a document that cannot be encoded, and where no
    document has anything to learn; FileExistsError where the folder is there already.
    """
    starts, images = [0], []
    tokens_per_image = 0
    num_learnt = 0
    with atomic_directory(folder) as partial:
        with (
            (partial / "token.bin").open("xb") as tokens,
            (partial / "learnt.bin").open("xb") as learnt,
        ):
            for index in progress(iter(range(len(source)))):
                document = encoder.encode(source.document(index))
                document.token.tofile(tokens)
                document.learnt.tofile(learnt)
                images += [
                    (index, starts[-1] + int(start), number)
                    for number, start in enumerate(document.image_start)
                ]
                tokens_per_image = tokens_per_image or document.tokens_per_image
                num_learnt += int(document.learnt[1:].sum())
                starts.append(starts[-1] + len(document))
        if not num_learnt:
            raise DataError("holds nothing that would be learnt", where=source.where)
        np.save(partial / "document.npy", np.array(starts, np.int64))
        np.save(partial / "image.npy", np.array(images, np.int64).reshape(-1, 3))
        facts = {
            "schema": _SCHEMA,
            "source": source.where,
            "num_documents": len(source),
            "num_tokens": starts[-1],
            "num_learnt": num_learnt,
            "tokens_per_image": tokens_per_image,
            "vocabulary_size": encoder.vocabulary_size,
            "learnt": encoder.learnt,
            "sha256": {name: _sha256(partial / name) for name in _FILES},
        }
        (partial / "corpus.json").write_text(json.dumps(facts, indent=2) + "\n")
        if isinstance(encoder.template, ChatTemplate):
            tokenizer = encoder.template.tokenizer.content()
            (partial / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    return Corpus(folder, source)


class Corpus:
    """source: where the pictures are; needed only for those.

    Raises DataError for a folder that is none, or whose files are not as they were written
    (sizes are looked at on opening; `verify` reads them whole).
    """

    def __init__(self, folder: Path, source: TextSource | None = None) -> None:
        self.folder, self._source = folder, source
        try:
            self.facts: dict[str, Any] = json.loads((folder / "corpus.json").read_text())
            schema = self.facts.get("schema")
            if schema != _SCHEMA:
                raise DataError(f"expected {_SCHEMA}, got {schema!r}", where=folder / "corpus.json")
            self._token = self._mapped("token.bin", np.dtype(np.int32))
            self._learnt = self._mapped("learnt.bin", np.dtype(np.bool_))
            self._starts = np.load(folder / "document.npy")
            self._images = np.load(folder / "image.npy")
        except DataError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"no corpus: {error}", where=folder) from error
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"corpus.json: not of a corpus: {error!r}", where=folder) from error

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def num_tokens(self) -> int:
        return int(self._starts[-1])

    @property
    def tokens_per_image(self) -> int:
        return int(self.facts["tokens_per_image"])

    def document(self, index: int) -> EncodedDocument:
        start, stop = self._starts[index : index + 2]
        first, last = np.searchsorted(self._images[:, 0], (index, index + 1))
        image_start = self._images[first:last, 1] - start
        return EncodedDocument(
            token=self._token[start:stop],
            learnt=self._learnt[start:stop],
            image_start=image_start,
            tokens_per_image=self.tokens_per_image if len(image_start) else 0,
        )

    def images(self, index: int) -> tuple[bytes, ...]:
        """The files of a document's pictures."""
        if self._source is None:
            raise DataError("images need the source, and none was given", where=self.folder)
        return self._source.document(index).images

    def verify(self) -> None:
        """Raises DataError for a file that is not the one that was written."""
        for name, expected in self.facts["sha256"].items():
            if _sha256(self.folder / name) != expected:
                raise DataError(
                    "its checksum differs from the written one", where=self.folder / name
                )

    def _mapped(self, name: str, dtype: np.dtype[Any]) -> np.ndarray:
        path = self.folder / name
        expected = int(self.facts["num_tokens"]) * dtype.itemsize
        size = path.stat().st_size if path.exists() else -1
        if size != expected:
            raise DataError(f"expected {expected} bytes, got {max(size, 0)}", where=path)
        return np.memmap(path, dtype=dtype, mode="r")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
