"""The manifest of a data set in the training format: `manifest.json`.

It holds the descriptions of all episodes, where their files are, their sizes and SHA-256. Opening
a data set reads it and nothing else. It is replaced atomically.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.atomic_file import atomic_file
from trainer.data.description_json import (
    cameras_from_json,
    cameras_to_json,
    description_from_json,
    fields_from_json,
    fields_to_json,
)
from trainer.data.episode import Camera, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.locations import Location

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = "assay.native/2"
_FORMATS = (MANIFEST_FORMAT, "assay.native/1")


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """facts: of `description_json.facts_to_json`. shared_bytes: in front of the rows, what the
    steps share; none in files of version 1."""

    file: str
    num_bytes: int
    sha256: str
    rows_at: int
    facts: Mapping[str, Any]
    shared_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        told = {
            "file": self.file,
            "num_bytes": self.num_bytes,
            "sha256": self.sha256,
            "rows_at": self.rows_at,
            "facts": dict(self.facts),
        }
        # Or data sets of version 1 would have another digest than they had.
        return told | ({"shared_bytes": self.shared_bytes} if self.shared_bytes else {})


@dataclass(frozen=True, kw_only=True)
class NativeManifest:
    """complete: whether the conversion came to its end. source: where it came from.

    settings: of the images.
    """

    complete: bool
    fields: Mapping[str, Field]
    cameras: Mapping[str, Camera]
    episodes: tuple[EpisodeRecord, ...]
    source: Mapping[str, Any]
    settings: Mapping[str, Any]

    def description(self, index: int) -> EpisodeDescription:
        return description_from_json(self.episodes[index].facts, self.fields, self.cameras)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the data are, files' checksums included; not of where they came from."""
        hasher = hashlib.sha256()
        for told in (fields_to_json(self.fields), cameras_to_json(self.cameras)):
            hasher.update(_canonical(told))
        for record in self.episodes:
            hasher.update(_canonical(record.to_json()))
        return hasher.hexdigest()

    def save(self, path: Path) -> None:
        """Atomically. An episode a line, for people and for diff."""
        head = {
            "format": MANIFEST_FORMAT,
            "complete": self.complete,
            "sha256": self.digest,
            "num_episodes": len(self.episodes),
            "num_steps": sum(record.facts["num_steps"] for record in self.episodes),
            "num_bytes": sum(record.num_bytes for record in self.episodes),
            "settings": dict(self.settings),
            "source": dict(self.source),
            "fields": fields_to_json(self.fields),
            "cameras": cameras_to_json(self.cameras),
        }
        lines = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
        records = ",\n".join(json.dumps(record.to_json()) for record in self.episodes)
        text = "{\n" + ",\n".join(lines) + f',\n"episodes": [\n{records}\n]\n}}\n'
        with atomic_file(path) as file:
            file.write(text.encode())

    @staticmethod
    def load(location: Location) -> NativeManifest:
        """Of a data set's folder. Raises DataError for what is not whole, as far as it tells."""
        place = location / MANIFEST_NAME
        try:
            told = json.loads(place.read_bytes())
            if told["format"] not in _FORMATS:
                raise DataError(
                    f"expected format {MANIFEST_FORMAT!r}, got {told['format']!r}", where=place
                )
            manifest = NativeManifest(
                complete=told["complete"],
                fields=fields_from_json(told["fields"]),
                cameras=cameras_from_json(told["cameras"]),
                episodes=tuple(EpisodeRecord(**record) for record in told["episodes"]),
                source=told["source"],
                settings=told["settings"],
            )
            digest = manifest.digest
        except DataError:
            raise
        except (
            OSError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
            raise DataError(
                f"not a manifest of {MANIFEST_FORMAT}: {error!r}", where=place
            ) from error
        if told.get("sha256") != digest:
            raise DataError(
                f"its contents have SHA-256 {digest}, but it says {told.get('sha256')}: "
                "the manifest was changed by hand or is corrupt",
                where=place,
            )
        return manifest


def _canonical(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode() + b"\n"
