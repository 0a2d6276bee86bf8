"""What a window costs in the training format and in what it was chosen over; prints JSON.

    python benchmarks/data_formats.py
    python benchmarks/data_formats.py --num-episodes 400 --num-windows 10000

A window is 16 rows of every field and the JPEG files of two images a camera. The same episodes are
laid out in each way, and the same random windows read from each, interleaved in rounds so that what
else the machine does meets them all alike:

    native    one file an episode, a record a step (trainer.data.formats.native), 64 files open
    columns   one file an episode, an array a field, read at a position; 64 files open
    mmap      the same files, memory-mapped; 64 maps open
    arrow     an Arrow IPC file an episode, memory-mapped; 64 maps open
    hdf5      an HDF5 file an episode, uncompressed; 64 files open
    npz       an uncompressed .npz an episode, opened by numpy for each window
    loose     a .npy file a field and a file a frame

`cpu_us` is CPU time a window, the median of the rounds, without decoding, which costs the same for
all (`decode_us`); ratios are to native. The page cache is warm: what is compared is overhead.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
import tyro

from trainer.data.conversion import Source, convert
from trainer.data.episode import Dataset, Field
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.memory import ArrayEpisode
from trainer.data.formats.native import NativeDataset
from trainer.data.formats.native_writer import NativeWriter

_CAMERAS = ("left", "right")
_OPEN = 64
_WINDOW = 16
_ROUNDS = 5

Episode = tuple[dict[str, npt.NDArray[np.float64]], dict[str, list[bytes]]]
Read = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time windows out of several layouts.

    Attributes:
        num_episodes: Episodes, more than the files that are open at once.
        num_steps: Control steps an episode.
        image_size: Pixels a side.
        num_windows: Windows a round.
        folder: Where to write; a temporary folder unless given.
    """

    num_episodes: int = 100
    num_steps: int = 100
    image_size: int = 224
    num_windows: int = 500
    folder: Path | None = None


def make_episode(number: int, arguments: BenchmarkArguments) -> ArrayEpisode:
    """The fields of a bimanual station; frames of smooth noise, as compressible as photographs."""
    rng, steps = np.random.default_rng(number), arguments.num_steps
    fields: dict[str, tuple[Field, npt.NDArray[Any]]] = {}
    for source in ("actual", "desired", "action"):
        for side in ("left", "right"):
            fields[f"{source}/pose/{side}"] = (Field(shape=(4, 4)), rng.random((steps, 4, 4)))
            fields[f"{source}/width_m/{side}"] = (Field(shape=()), rng.random(steps))
    size = arguments.image_size
    images = {}
    for camera in _CAMERAS:
        coarse = rng.integers(0, 256, (steps // 10, size // 8, size // 8, 3)).astype(np.uint8)
        fine = coarse.repeat(10, axis=0).repeat(8, axis=1).repeat(8, axis=2)
        images[camera] = fine[:steps] // 2 + np.linspace(0, 127, size).astype(np.uint8)[:, None]
    return ArrayEpisode.make(f"{number}", rate_hz=10.0, fields=fields, images=images)


class _MadeDataset(Dataset):
    """Makes an episode when it is asked for: all at once would not fit into memory."""

    format_name, where = "made", "here"

    def __init__(self, arguments: BenchmarkArguments) -> None:
        self._arguments = arguments

    def __len__(self) -> int:
        return self._arguments.num_episodes

    def episode(self, index: int) -> ArrayEpisode:
        return make_episode(index, self._arguments)


class _Recent:
    """The files opened last, as every layout may keep some open."""

    def __init__(self, opener: Callable[[int], Any], close: Callable[[Any], object]) -> None:
        self._opener, self._close = opener, close
        self._open: OrderedDict[int, Any] = OrderedDict()

    def get(self, episode: int) -> Any:
        if episode in self._open:
            self._open.move_to_end(episode)
        else:
            self._open[episode] = self._opener(episode)
            if len(self._open) > _OPEN:
                self._close(self._open.popitem(last=False)[1])
        return self._open[episode]


def columns_layout(folder: Path, episodes: list[Episode]) -> dict[str, Read]:
    """Fields one after the other, then frames step by step; read at a position, and mapped."""
    places: list[tuple[dict[str, tuple[int, tuple[int, ...]]], npt.NDArray[np.int64]]] = []
    for number, (fields, frames) in enumerate(episodes):
        columns, bounds = {}, []
        with (folder / f"{number}").open("wb") as file:
            for name, array in fields.items():
                columns[name] = (file.tell(), array.shape[1:])
                file.write(array.tobytes())
            for step in zip(*frames.values(), strict=True):
                for data in step:
                    bounds.append(file.tell())
                    file.write(data)
            bounds.append(file.tell())
        places.append((columns, np.array(bounds)))

    files = _Recent(lambda number: os.open(folder / f"{number}", os.O_RDONLY), os.close)

    def read(number: int, step: int) -> None:
        columns, bounds = places[number]
        file = files.get(number)
        for start, shape in columns.values():
            row = 8 * int(np.prod(shape))
            data = os.pread(file, _WINDOW * row, start + step * row)
            np.frombuffer(data).reshape(_WINDOW, *shape)
        first, last = bounds[2 * step], bounds[2 * step + 4]
        os.pread(file, int(last - first), int(first))

    def open_map(number: int) -> tuple[Any, list[Any]]:
        mapped = np.memmap(folder / f"{number}", np.uint8, "r")
        views = [
            np.ndarray((len(places[number][1]) // 2, *shape), np.float64, mapped.data, start)
            for start, shape in places[number][0].values()
        ]
        return mapped, views

    maps = _Recent(open_map, lambda _: None)

    def read_map(number: int, step: int) -> None:
        mapped, views = maps.get(number)
        for view in views:
            view[step : step + _WINDOW].copy()
        bounds = places[number][1]
        bytes(mapped[bounds[2 * step] : bounds[2 * step + 4]].data)

    return {"columns": read, "mmap": read_map}


def arrow_layout(folder: Path, episodes: list[Episode]) -> dict[str, Read]:
    for number, (fields, frames) in enumerate(episodes):
        arrays = {
            name: pa.FixedSizeListArray.from_arrays(
                pa.array(array.reshape(-1)), int(np.prod(array.shape[1:]))
            )
            for name, array in fields.items()
        }
        table = pa.table(arrays | {name: pa.array(files) for name, files in frames.items()})
        with (
            pa.OSFile(str(folder / f"{number}"), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    shapes = {name: array.shape[1:] for name, array in episodes[0][0].items()}
    tables = _Recent(
        lambda number: pa.ipc.open_file(pa.memory_map(str(folder / f"{number}"))).get_batch(0),
        lambda _: None,
    )

    def read(number: int, step: int) -> None:
        batch = tables.get(number)
        for name, shape in shapes.items():
            column = batch.column(name).slice(step, _WINDOW)
            column.flatten().to_numpy().reshape(_WINDOW, *shape).copy()
        for camera in _CAMERAS:
            for value in batch.column(camera).slice(step, 2):
                value.as_py()

    return {"arrow": read}


def hdf5_layout(folder: Path, episodes: list[Episode]) -> dict[str, Read]:
    for number, (fields, frames) in enumerate(episodes):
        with h5py.File(folder / f"{number}", "w") as root:
            for name, array in fields.items():
                root[name] = array
            for name, files in frames.items():
                kind = h5py.vlen_dtype(np.uint8)
                stored = root.create_dataset(f"frames/{name}", (len(files),), kind)
                for step, data in enumerate(files):
                    stored[step] = np.frombuffer(data, np.uint8)
    names = list(episodes[0][0])

    def open_file(number: int) -> tuple[h5py.File, list[Any]]:
        root = h5py.File(folder / f"{number}")
        return root, [root[name] for name in [*names, *(f"frames/{c}" for c in _CAMERAS)]]

    files = _Recent(open_file, lambda opened: opened[0].close())

    def read(number: int, step: int) -> None:
        arrays = files.get(number)[1]
        for array in arrays[: len(names)]:
            array[step : step + _WINDOW]
        for array in arrays[len(names) :]:
            array[step : step + 2]

    return {"hdf5": read}


def npz_layout(folder: Path, episodes: list[Episode]) -> dict[str, Read]:
    for number, (fields, frames) in enumerate(episodes):
        arrays: dict[str, Any] = {**fields}
        for name, files in frames.items():
            arrays[f"{name}_ends"] = np.cumsum([len(data) for data in files])
            arrays[f"{name}_data"] = np.frombuffer(b"".join(files), np.uint8)
        np.savez(folder / f"{number}.npz", **arrays)
    names = list(episodes[0][0])

    def read(number: int, step: int) -> None:
        with np.load(folder / f"{number}.npz") as arrays:
            for name in names:
                arrays[name][step : step + _WINDOW].copy()
            for camera in _CAMERAS:
                ends = arrays[f"{camera}_ends"]
                bytes(arrays[f"{camera}_data"][ends[step] - 1 : ends[step + 1]].data)

    return {"npz": read}


def loose_layout(folder: Path, episodes: list[Episode]) -> dict[str, Read]:
    for number, (fields, frames) in enumerate(episodes):
        (folder / f"{number}").mkdir()
        for name, array in fields.items():
            np.save(folder / f"{number}" / name.replace("/", "."), array)
        for name, files in frames.items():
            for step, data in enumerate(files):
                (folder / f"{number}" / f"{name}_{step}.jpg").write_bytes(data)
    names = [name.replace("/", ".") for name in episodes[0][0]]

    def read(number: int, step: int) -> None:
        for name in names:
            array = np.load(folder / f"{number}" / f"{name}.npy", mmap_mode="r")
            np.array(array[step : step + _WINDOW])
        for camera in _CAMERAS:
            for place in (step, step + 1):
                (folder / f"{number}" / f"{camera}_{place}.jpg").read_bytes()

    return {"loose": read}


def measure(arguments: BenchmarkArguments, folder: Path) -> dict[str, Any]:
    convert(Source.of(_MadeDataset(arguments)), NativeWriter(destination=folder / "native"))
    dataset = open_dataset(folder / "native")
    assert isinstance(dataset, NativeDataset)
    reader = dataset.reader(_OPEN)
    episodes: list[Episode] = []
    for episode in dataset:
        fields = {name: episode.read(name) for name in episode.description.fields}
        steps = range(arguments.num_steps)
        frames = {name: episode.encoded_frames(name, steps) or [] for name in _CAMERAS}
        episodes.append((fields, frames))
    names = list(episodes[0][0])

    def read_native(number: int, step: int) -> None:
        rows = reader.rows(number, step, step + _WINDOW)
        for name in names:
            rows[name]
        reader.encoded_images(number, [step, step + 1])

    reads: dict[str, Read] = {"native": read_native}
    for layout in (columns_layout, arrow_layout, hdf5_layout, npz_layout, loose_layout):
        place = folder / layout.__name__
        place.mkdir()
        reads |= layout(place, episodes)

    rng = np.random.default_rng(0)
    costs: dict[str, list[float]] = {name: [] for name in reads}
    for _ in range(_ROUNDS):
        numbers = rng.integers(0, arguments.num_episodes, arguments.num_windows).tolist()
        places = rng.integers(0, arguments.num_steps - _WINDOW, arguments.num_windows).tolist()
        for name, read in reads.items():
            begun = time.process_time()
            for number, step in zip(numbers, places, strict=True):
                read(number, step)
            costs[name].append(1e6 * (time.process_time() - begun) / arguments.num_windows)
    begun = time.process_time()
    for step in range(100):
        for files in episodes[step % len(episodes)][1].values():
            for data in files[step : step + 2]:
                simplejpeg.decode_jpeg(data)
    decode_us = 1e4 * (time.process_time() - begun)
    median = {name: statistics.median(values) for name, values in costs.items()}
    return {
        "cpu_us": {name: round(value, 1) for name, value in median.items()},
        "ratio": {name: round(value / median["native"], 2) for name, value in median.items()},
        "decode_us": round(decode_us, 1),
        "megabytes": {
            place.name: round(
                sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6, 1
            )
            for place in sorted(folder.iterdir())
        },
        "files": {
            place.name: sum(file.is_file() for file in place.rglob("*"))
            for place in sorted(folder.iterdir())
        },
    }


def main() -> None:
    arguments = tyro.cli(BenchmarkArguments, description=__doc__)
    parent = arguments.folder
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="data-formats-", dir=parent))
    try:
        print(json.dumps(measure(arguments, folder), indent=2))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
