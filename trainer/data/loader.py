"""Batches of windows from any mixture of data sets: frames as uint8, fields as they are stored.

Fields are small, and are kept in memory. Frames are, too, where they fit in the budget that the
configuration states (`LoaderConfig.cache_gib`); otherwise processes decode them just in time. What
a batch holds does not depend on which of the two it is, nor on the number of processes.

Axes: B sample, W step of the window, F frame, H W image, T control step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.available_cores import available_cores
from trainer.data.configuration import LoaderConfig
from trainer.data.episode import Dataset
from trainer.data.errors import DataError
from trainer.data.frame_workers import EpisodeFrames, FrameRequest, FrameWorkers
from trainer.data.sampling import Mixture, Samples, Source
from trainer.data.windows import BoolArray, IntArray, WindowIndex, WindowSpec

_MOST_DEFAULT_WORKERS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class LoaderSource:
    """Some episodes of a data set, and their share of the samples."""

    dataset: Dataset
    episodes: Sequence[int]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowBatch:
    """samples: what they are. episode: (B,), places in the data set. anchor: (B,) steps.

    images: (B, F, H, W, 3) uint8 by camera, on the loader's device; good until the next batch.
    fields: (B, W, *shape) by name, padding repeated. valid: (B, W), False where padded.
    """

    samples: Samples
    episode: IntArray
    anchor: IntArray
    images: Mapping[str, Tensor]
    fields: Mapping[str, npt.NDArray[Any]]
    valid: BoolArray


class _Table:
    """Chosen fields of a source's episodes, one after the other."""

    def __init__(self, source: LoaderSource, fields: Sequence[str]) -> None:
        read = []
        for index in source.episodes:
            episode = source.dataset.episode(index)
            read.append(episode.read_fields(fields) if fields else {})
        self.values = {
            name: np.concatenate([np.asarray(values[name]) for values in read]) for name in fields
        }


class WindowLoader:
    """A context manager: processes and memory are let go of at its end."""

    def __init__(
        self,
        sources: Sequence[LoaderSource],
        window: WindowSpec,
        *,
        cameras: Sequence[str],
        fields: Sequence[str],
        batch_size: int,
        seed: int,
        config: LoaderConfig,
        device: torch.device,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        """Raises DataError for sources without a window, and for cameras that differ in size."""
        self._sources, self.window = list(sources), window
        self._batch_size, self._config, self._device = batch_size, config, device
        self._rank, self._num_ranks = rank, num_ranks
        descriptions = [
            [source.dataset.episode(index).description for index in source.episodes]
            for source in self._sources
        ]
        lengths = [[d.num_steps for d in described] for described in descriptions]
        self._indices = [WindowIndex(each, window) for each in lengths]
        self._starts = [np.cumsum([0, *each], dtype=np.int64) for each in lengths]
        self.mixture = Mixture(
            [
                Source(name=s.dataset.where, num_samples=len(index), weight=s.weight)
                for s, index in zip(self._sources, self._indices, strict=True)
            ],
            seed,
        )
        self._image_sizes = _image_sizes(
            [d for described in descriptions for d in described], cameras
        )
        self._tables = [_Table(source, fields) for source in self._sources]
        self._cache = self._decode_all() if self.fits_in_cache else None
        self._workers: FrameWorkers | None = None

    @property
    def num_windows(self) -> int:
        """Of all sources."""
        return sum(map(len, self._indices))

    @property
    def fits_in_cache(self) -> bool:
        """Whether the decoded frames of all sources fit in the budget."""
        pixels = sum(height * width for height, width in self._image_sizes.values())
        steps = sum(int(starts[-1]) for starts in self._starts)
        return 3 * pixels * steps <= self._config.cache_gib * 2**30

    def __enter__(self) -> WindowLoader:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def batches(self, start: int, stop: int) -> Iterator[WindowBatch]:
        """Of optimizer steps `start` to `stop`, the last one left out."""
        if self._cache is not None or not self._image_sizes:
            for step in range(start, stop):
                located = self._located(step)
                yield self._batch(*located, self._cached_frames(*located))
            return
        self.close()
        self._workers = self._start_workers()
        asked: deque[tuple[Samples, IntArray, IntArray]] = deque()

        def requests() -> Iterator[FrameRequest]:
            for step in range(start, stop):
                asked.append(self._located(step))
                yield self._request(*asked[-1])

        for frames in self._workers.batches(requests()):
            images = {
                name: torch.from_numpy(array).to(self._device) for name, array in frames.items()
            }
            yield self._batch(*asked.popleft(), images)

    def _located(self, step: int) -> tuple[Samples, IntArray, IntArray]:
        """Samples of a step, and of each the place of its episode in its source and its anchor."""
        samples = self.mixture.batch(step, self._batch_size, self._rank, self._num_ranks)
        places, anchors = np.empty_like(samples.index), np.empty_like(samples.index)
        for source, index in enumerate(self._indices):
            here = samples.source == source
            places[here], anchors[here] = index.locate(samples.index[here])
        return samples, places, anchors

    def _per_source(
        self, samples: Samples, of: Sequence[npt.ArrayLike], places: IntArray
    ) -> IntArray:
        """Each sample's number out of a table a source."""
        found = np.empty_like(places)
        for source, table in enumerate(of):
            here = samples.source == source
            found[here] = np.asarray(table)[places[here]]
        return found

    def _lengths(self, samples: Samples, places: IntArray) -> IntArray:
        return self._per_source(samples, [index.lengths for index in self._indices], places)

    def _episodes(self, samples: Samples, places: IntArray) -> IntArray:
        return self._per_source(samples, [source.episodes for source in self._sources], places)

    def _request(self, samples: Samples, places: IntArray, anchors: IntArray) -> FrameRequest:
        return FrameRequest(
            dataset=samples.source,
            episode=self._episodes(samples, places),
            steps=self.window.image_steps(anchors, self._lengths(samples, places)),
        )

    def _cached_frames(
        self, samples: Samples, places: IntArray, anchors: IntArray
    ) -> dict[str, Tensor]:
        if self._cache is None:
            return {}
        steps_BF = self.window.image_steps(anchors, self._lengths(samples, places))
        rows_BF = steps_BF + self._per_source(samples, self._cache_starts, places)[:, None]
        index = torch.from_numpy(rows_BF.ravel()).to(self._device)
        return {
            name: frames.index_select(0, index).reshape(*rows_BF.shape, *frames.shape[1:])
            for name, frames in self._cache.items()
        }

    @property
    def _cache_starts(self) -> list[IntArray]:
        """Where each episode's frames begin in the cache, by source."""
        before = np.cumsum([0, *(int(starts[-1]) for starts in self._starts)])
        return [b + starts[:-1] for b, starts in zip(before, self._starts, strict=False)]

    def _batch(
        self,
        samples: Samples,
        places: IntArray,
        anchors: IntArray,
        images: Mapping[str, Tensor],
    ) -> WindowBatch:
        steps_BW, valid_BW = self.window.steps(anchors, self._lengths(samples, places))
        fields: dict[str, npt.NDArray[Any]] = {}
        for source, table in enumerate(self._tables):
            here = samples.source == source
            rows = self._starts[source][places[here]][:, None] + steps_BW[here]
            for name, values in table.values.items():
                if name not in fields:
                    fields[name] = np.empty((*steps_BW.shape, *values.shape[1:]), values.dtype)
                fields[name][here] = values[rows]
        return WindowBatch(
            samples=samples,
            episode=self._episodes(samples, places),
            anchor=anchors,
            images=images,
            fields=fields,
            valid=valid_BW,
        )

    def _decode_all(self) -> dict[str, Tensor]:
        total = sum(int(starts[-1]) for starts in self._starts)
        frames = {
            name: np.empty((total, height, width, 3), np.uint8)
            for name, (height, width) in self._image_sizes.items()
        }
        datasets = [source.dataset for source in self._sources]
        all_starts = self._cache_starts
        readers = local()

        def decode(number: int, place: int) -> None:
            if not hasattr(readers, "own"):
                readers.own = EpisodeFrames(datasets)
            start = int(all_starts[number][place])
            length = int(self._indices[number].lengths[place])
            out = {name: array[start : start + length] for name, array in frames.items()}
            readers.own.read(number, self._sources[number].episodes[place], range(length), out)

        # Codecs let go of Python's lock.
        with ThreadPoolExecutor(available_cores()) as threads:
            begun = [
                threads.submit(decode, number, place)
                for number, source in enumerate(self._sources)
                for place in range(len(source.episodes))
            ]
            try:
                for each in begun:
                    each.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return {name: torch.from_numpy(array).to(self._device) for name, array in frames.items()}

    def _start_workers(self) -> FrameWorkers:
        return FrameWorkers(
            [source.dataset for source in self._sources],
            self._image_sizes,
            batch_size=-(-self._batch_size // self._num_ranks),
            num_frames=len(self.window.image_offsets),
            num_workers=self._config.num_workers or min(available_cores(), _MOST_DEFAULT_WORKERS),
            num_slots=self._config.num_batches_ahead + 1,
        )


def _image_sizes(descriptions: Sequence[Any], cameras: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(H, W) by camera, one for all episodes."""
    sizes: dict[str, tuple[int, int]] = {}
    for description in descriptions:
        for name in cameras:
            if name not in description.cameras:
                raise DataError(
                    f"camera {name!r} missing: there are {sorted(description.cameras)}",
                    episode=description.episode_id,
                )
            camera = description.cameras[name]
            size = sizes.setdefault(name, (camera.height, camera.width))
            if size != (camera.height, camera.width):
                raise DataError(
                    f"camera {name!r}: expected images of {size[1]}x{size[0]}, as in the episodes "
                    f"before it, got {camera.width}x{camera.height}",
                    episode=description.episode_id,
                )
    return sizes
