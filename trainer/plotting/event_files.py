"""Scalars of TensorBoard's event files, each step once, whatever a crash has left in them.

An event file is a row of records (TFRecord): the length of what follows (8 bytes, little endian),
its checksum (4), the event, its checksum (4).
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.util import tb_logging

from policy_interface.types import FloatArray
from trainer.plotting.errors import PlottingError

_PATTERN = "*tfevents*"
_HEAD, _SUM = struct.Struct("<QI"), struct.Struct("<I")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scalars:
    """Of one name. steps: (N,), ascending, each once. values: (N,)."""

    steps: npt.NDArray[np.int64]
    values: FloatArray


def read_scalars(folder: Path, warn: Callable[[str], None]) -> dict[str, Scalars]:
    """By name; those of a step that a resumed run took again are the later ones.

    A broken record is left out, and `warn` is told once a file. Raises PlottingError,
    OSError.
    """
    # It tells what it purges, which is what it is asked to do.
    tb_logging.get_logger().setLevel("ERROR")
    files = _event_files(folder)
    if not files:
        return {}
    with tempfile.TemporaryDirectory() as repaired:
        source = folder
        if sum(_warn_of_broken(path, warn) for path in files):
            source = Path(repaired)
            for path in files:
                whole = b"".join(each for each in _records(path) if isinstance(each, bytes))
                (source / path.name).write_bytes(whole)
        accumulator = EventAccumulator(str(source), size_guidance={"scalars": 0, "images": 1})
        try:
            accumulator.Reload()
        except DecodeError as error:
            # In an event that is whole, such as one with a graph that is none.
            raise PlottingError(f"{folder}: cannot be read as events: {error}") from error
    found: dict[str, Scalars] = {}
    for name in accumulator.Tags()["scalars"]:
        by_step = {event.step: event.value for event in accumulator.Scalars(name)}
        steps = sorted(by_step)
        found[name] = Scalars(
            steps=np.array(steps, dtype=np.int64),
            values=np.array([by_step[step] for step in steps], dtype=np.float64),
        )
    return found


def _event_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(_PATTERN) if path.is_file())


@dataclass(frozen=True)
class _Broken:
    """A record that is none, from this place in the file on."""

    place: int


def _warn_of_broken(path: Path, warn: Callable[[str], None]) -> int:
    """How many records are broken."""
    broken = [record for record in _records(path) if isinstance(record, _Broken)]
    if broken:
        many = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        warn(f"{path}: broken record at byte {broken[0].place}{many}, left out")
    return len(broken)


def _records(path: Path) -> Iterator[bytes | _Broken]:
    """Each record's bytes, checksums and all."""
    data = path.read_bytes()
    place = 0
    while place < len(data):
        head = data[place : place + _HEAD.size]
        if len(head) < _HEAD.size:
            yield _Broken(place)
            return
        length, checksum = _HEAD.unpack(head)
        stop = place + _HEAD.size + length + _SUM.size
        # Without its length, nobody knows where the next one begins.
        if masked_crc32c(head[:8]) != checksum or stop > len(data):
            yield _Broken(place)
            return
        event = data[place + _HEAD.size : stop - _SUM.size]
        (checksum,) = _SUM.unpack(data[stop - _SUM.size : stop])
        yield data[place:stop] if _is_event(event, checksum) else _Broken(place)
        place = stop


def _is_event(event: bytes, checksum: int) -> bool:
    if masked_crc32c(event) != checksum:
        return False
    try:
        # Made from a description at run time, which a type checker does not see.
        event_pb2.Event.FromString(event)  # pyright: ignore[reportAttributeAccessIssue]
    except DecodeError:
        return False
    return True
