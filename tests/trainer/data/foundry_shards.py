"""Data sets as VLA Foundry's shards, and shards with other metadata."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.data.conversion import Source, convert
from trainer.data.episode import Dataset
from trainer.data.formats.foundry_writer import FoundryWriter


def written(folder: Path, dataset: Dataset, **settings: Any) -> Path:
    folder.mkdir()
    convert(Source.of(dataset), FoundryWriter(destination=folder, **settings))
    return folder


def rewrite(shard: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The shard with other metadata."""
    buffer = io.BytesIO()
    with tarfile.open(shard) as source, tarfile.open(fileobj=buffer, mode="w") as target:
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            data = file.read()
            if member.name.endswith("metadata.json"):
                data = json.dumps(change(json.loads(data))).encode()
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    shard.write_bytes(buffer.getvalue())
