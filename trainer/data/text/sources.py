"""Documents in files, found at random: document n of a source is always the same.

What a source is, is told by its name: JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`), parquet,
WebDataset tars, plain text files, or a folder of these.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.text.documents import Columns, Document
from trainer.data.text.source import ChosenDocuments, JoinedSource, TextSource

JSON_LINES = (".jsonl", ".ndjson", ".json")
TARS = (".tar",)
PARQUET = (".parquet",)
TEXT_FILES = (".txt", ".md", ".rst", ".py")
_COMPRESSED = (".gz", ".zst")


def open_source(place: str | Path | Location, columns: Columns | None = None) -> TextSource:
    """Raises DataError for a place that is missing, holds nothing known or yields nothing."""
    location = Location.parse(place)
    columns = columns or Columns()
    opened = [_open_file(file, columns) for file in text_files(location)]
    source = JoinedSource(opened, str(location)) if location.is_dir() else opened[0]
    if len(source) == 0:
        raise DataError("holds no documents", where=location)
    return source


def text_files(location: Location) -> list[Location]:
    """What a source is read of, by path. Raises DataError where nothing known is there."""
    if not location.exists():
        raise DataError("no such file or folder", where=location)
    if location.is_dir():
        files = [file for file in location.find() if _kind(file.name) is not None]
        if not files:
            raise DataError(
                "no text here; expected .jsonl(.gz, .zst), .parquet, .tar, .txt, .md, .rst or .py",
                where=location,
            )
        # A folder of data files may hold a README beside them.
        return [file for file in files if _kind(file.name) != "text"] or files
    if _kind(location.name) is None:
        raise DataError(
            "expected .jsonl(.gz, .zst), .parquet, .tar, .txt, .md, .rst or .py", where=location
        )
    return [location]


def is_one_document(name: str) -> bool:
    """Whether a file is, however large it is."""
    return _kind(name) == "text"


def open_part(
    file: Location, part: int, num_parts: int, columns: Columns | None = None
) -> TextSource:
    """Of a file's documents, those of one of so many parts, in each of which are about as many.

    Of JSON lines no more is read than the part. Raises DataError.
    """
    columns = columns or Columns()
    if _kind(file.name) == "json lines":
        from trainer.data.text.json_lines import JsonLines

        return JsonLines(file, columns, part=part, num_parts=num_parts)
    source = _open_file(file, columns)
    edges = [len(source) * each // num_parts for each in (part, part + 1)]
    return ChosenDocuments(source, range(*edges))


def _kind(name: str) -> str | None:
    plain = name.lower()
    for ending in _COMPRESSED:
        plain = plain.removesuffix(ending)
    kinds = {"json lines": JSON_LINES, "tar": TARS, "parquet": PARQUET, "text": TEXT_FILES}
    return next((kind for kind, endings in kinds.items() if plain.endswith(endings)), None)


def _open_file(file: Location, columns: Columns) -> TextSource:
    kind = _kind(file.name)
    if kind == "json lines":
        from trainer.data.text.json_lines import JsonLines

        return JsonLines(file, columns)
    if kind == "parquet":
        from trainer.data.text.parquet_documents import ParquetDocuments

        return ParquetDocuments(file, columns)
    if kind == "tar":
        from trainer.data.text.tar_documents import TarDocuments

        return TarDocuments(file, columns)
    return TextFile(file)


class TextFile(TextSource):
    """A file that is one document; an empty one is none."""

    def __init__(self, file: Location) -> None:
        self.where = str(file)
        self._file = file

    def __len__(self) -> int:
        return int(self._file.size() > 0)

    def document(self, index: int) -> Document:
        del index
        try:
            text = self._file.read_text()
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error}", where=self.where) from error
        return Document(where=self.where, text=text)
