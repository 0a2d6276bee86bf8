"""WebDataset tars: files of one key are a record, their extensions its columns."""

from __future__ import annotations

import posixpath
import tarfile
from typing import Any

from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.text.documents import Columns, Document, document_of, parsed_json
from trainer.data.text.source import TextSource
from trainer.data.text.unpacking import unpacked

_BLOCK = 512


class TarDocuments(TextSource):
    """Opening it reads the headers; a document reads its own members alone.

    A `.json` member that holds an object gives its entries as columns.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        self.where, self._columns = str(file), columns
        self._path = unpacked(file)
        # By key, in the order of the tar: offset and size of each extension's member.
        self._members: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            with tarfile.open(self._path, "r:") as tar:
                for member in tar:
                    if member.issparse() or member.size < 0:
                        raise DataError(
                            f"member {member.name!r}: expected a plain file of known size",
                            where=file,
                        )
                    if member.isfile():
                        folder, name = posixpath.split(member.name)
                        stem, _, extension = name.partition(".")
                        key = posixpath.join(folder, stem)
                        place = (member.offset_data, member.size)
                        self._members.setdefault(key, {})[extension.lower()] = place
        except DataError:
            raise
        # Headers that say nonsense, or name one another without end.
        except (tarfile.TarError, ValueError, OSError, RecursionError) as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            raise DataError(f"not a whole tar: {error}", where=file) from error
        self._keys = list(self._members)
        self._size = self._path.stat().st_size
        places = [place for record in self._members.values() for place in record.values()]
        end = max((offset + -(-size // _BLOCK) * _BLOCK for offset, size in places), default=0)
        # Cut between two members it would look whole, and the rest be missed by nobody.
        if self._size < end + _BLOCK:
            raise DataError("the tar lacks its end mark: it was cut", where=file)

    def __len__(self) -> int:
        return len(self._keys)

    def document(self, index: int) -> Document:
        key = self._keys[index]
        where = f"{self.where}, member {key}"
        record: dict[str, Any] = {}
        with self._path.open("rb") as file:
            for extension, (offset, size) in self._members[key].items():
                if offset + size > self._size:
                    raise DataError(f".{extension}: the tar ends within it", where=where)
                file.seek(offset)
                record[extension] = file.read(size)
        if "json" in record:
            record |= _entries(record.pop("json"), where)
        return document_of(record, self._columns, where, _no_file)


def _entries(content: bytes, where: str) -> dict[str, Any]:
    value = parsed_json(content, ".json: ", where)
    if isinstance(value, dict):
        return value
    # A bare list is a dialogue, a bare string a text.
    return {"messages" if isinstance(value, list) else "text": value}


def _no_file(path: str) -> bytes:
    raise DataError(f"a tar holds its images itself; {path!r} names another file")
