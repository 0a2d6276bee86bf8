"""What benchmarks/data.py measures, apart from it: the loader's processes import their main module,
and that one should cost nothing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rendered_scenes import SceneDataset

from policy_interface.contract import Contract
from trainer.data.configuration import LoaderConfig, NormalizationConfig
from trainer.data.conversion import ConversionOptions, Source, convert
from trainer.data.episode import Dataset
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.foundry_writer import FoundryWriter
from trainer.data.formats.native_writer import NativeWriter
from trainer.data.loader import LoaderSource, WindowBatch, WindowLoader
from trainer.data.normalization import Normalizer
from trainer.data.robot_transform import robot_action_space
from trainer.data.statistics.collect import collect_statistics
from trainer.data.windows import WindowSpec

# As Foundry's presets for LBM Eval's data have it: 16 steps, two images a camera.
WINDOW = WindowSpec(past=1, future=14, image_offsets=(-1, 0))
BATCH_SIZE = 64
STEPS_AN_EPISODE = 200
TRAINING_STEP_S = 0.05


@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """Measure the loader and the statistics.

    Attributes:
        folder: For the episodes, some gigabytes; used again where it is whole.
        windows: Windows of the comparison, as many as control steps.
        side: Pixels of an image's side.
        workers: Processes that decode, on both sides.
        foundry: A checkout of VLA Foundry; without it, its side is not measured.
        foundry_python: The interpreter of an environment that has what the checkout wants.
        foundry_stages: How far its pipeline is run; benchmarks/data_foundry.py says what they are.
        epochs: Passes over an eighth of the episodes while memory is watched.
        only: "loader", "statistics" or "steady"; by default all three.
    """

    folder: Path = Path("runs/data_benchmark")
    windows: int = 20_000
    side: int = 224
    workers: int = 2
    foundry: Path | None = None
    foundry_python: Path = Path(sys.executable)
    foundry_stages: tuple[str, ...] = ("all", "decoded")
    epochs: int = 10
    only: tuple[Literal["loader", "statistics", "steady"], ...] = ("loader", "statistics", "steady")


def cpu_s() -> float:
    """Of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def prepare(arguments: DataArguments) -> tuple[Dataset, Path]:
    """The episodes in the training format, and the folder of shards."""
    num_episodes = max(1, arguments.windows // STEPS_AN_EPISODE)
    scenes = SceneDataset(num_episodes, STEPS_AN_EPISODE, arguments.side)
    options = ConversionOptions(num_workers=os.cpu_count())
    native, shards = arguments.folder / "native", arguments.folder / "foundry"
    # Each is stored where the other would store it: the shards' frames are copies of these.
    convert(Source.of(scenes), NativeWriter(destination=native), options)
    if "loader" in arguments.only:
        # Every step is an anchor, so that both sides have the same windows.
        writer = FoundryWriter(destination=shards, window=WINDOW)
        convert(Source.at(native), writer, options)
    return open_dataset(native), shards / "shards"


class RobotBatches:
    """Our side: decoded frames, and actions and proprioception encoded and normalised."""

    def __init__(self, dataset: Dataset, config: LoaderConfig, episodes: Sequence[int]) -> None:
        description = dataset.episode(0).description
        contract = Contract.from_json(description.provenance["contract"])
        space = robot_action_space(contract.arms, contract.grippers)
        statistics = collect_statistics(
            dataset, WINDOW, vectors={"action": space.action, "state": space.proprioception}
        )
        self.action = space.action.resolve(description.fields)
        self.state = space.proprioception.resolve(description.fields)
        normalization = NormalizationConfig(scope="per_timestep")
        self.scales = [
            Normalizer.from_statistics(statistics.fields[name], normalization, 1e-2)
            for name in ("action", "state")
        ]
        self.loader = WindowLoader(
            [LoaderSource(dataset=dataset, episodes=episodes)],
            WINDOW,
            cameras=tuple(description.cameras),
            fields=space.field_names,
            batch_size=BATCH_SIZE,
            seed=0,
            config=config,
            device=torch.device("cpu"),
        )

    def batches(self, start: int, stop: int) -> Iterator[WindowBatch]:
        for batch in self.loader.batches(start, stop):
            anchor = {name: values[:, WINDOW.past] for name, values in batch.fields.items()}
            action, state = self.scales
            action.normalize(self.action.encode(batch.fields, anchor))
            states = self.state.encode(batch.fields, anchor)[:, : WINDOW.past + 1]
            state.normalize(states, first_step=-WINDOW.past)
            yield batch


def measure_loader(arguments: DataArguments, dataset: Dataset, shards: Path) -> dict[str, Any]:
    config = LoaderConfig(cache_gib=0, num_workers=arguments.workers)
    source = RobotBatches(dataset, config, range(len(dataset)))
    num_steps = source.loader.num_windows // BATCH_SIZE
    started_s, started_cpu_s = time.perf_counter(), cpu_s()
    # Starting the processes and closing them is in it, as it is on the other side.
    num_samples = sum(len(batch.samples) for batch in source.batches(0, num_steps))
    source.loader.close()
    ours = rates(num_samples, time.perf_counter() - started_s, cpu_s() - started_cpu_s)
    native = num_bytes(Path(dataset.where))
    result: dict[str, Any] = {"num_windows": source.loader.num_windows, "ours": ours}
    result["bytes"] = {"ours": native, "foundry": num_bytes(shards)}
    result["bytes_ratio"] = round(native / num_bytes(shards), 3)
    if arguments.foundry is not None:
        for stages in arguments.foundry_stages:
            theirs = run_foundry(arguments, shards, stages)
            result[f"foundry_{stages}"] = theirs
            for unit in ("samples_per_s", "samples_per_cpu_s"):
                result[f"ratio_{unit}_{stages}"] = round(ours[unit] / theirs[unit], 2)
    return result


def run_foundry(arguments: DataArguments, shards: Path, stages: str) -> dict[str, Any]:
    done = subprocess.run(
        [
            str(arguments.foundry_python),
            str(Path(__file__).with_name("data_foundry.py")),
            str(arguments.foundry),
            str(shards.resolve()),
            str(arguments.workers),
            str(BATCH_SIZE),
            stages,
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode != 0:
        raise SystemExit(f"Foundry's side failed:\n{done.stderr[-3000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    versions = {name: told[name] for name in ("torch", "webdataset")}
    return rates(told["num_samples"], told["wall_s"], told["cpu_s"]) | versions


def rates(num_samples: int, wall_s: float, used_cpu_s: float) -> dict[str, Any]:
    return {
        "num_samples": num_samples,
        "samples_per_s": round(num_samples / wall_s, 1),
        "samples_per_cpu_s": round(num_samples / used_cpu_s, 1),
    }


def num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measure_statistics(dataset: Dataset) -> dict[str, Any]:
    """CPU seconds an episode: ours over all episodes, the other over as many as take a while."""
    ours_s = {}
    for name, window in (("overall", WindowSpec()), ("each_time_step", WINDOW)):
        # Once unmeasured: the first reads of files and imports are neither's business.
        for _ in range(2):
            started_s = time.process_time()
            collect_statistics(dataset, window)
            ours_s[name] = (time.process_time() - started_s) / len(dataset)
    description = dataset.episode(0).description
    columns = sum(field.size for field in description.fields.values())
    few = min(len(dataset), 8)
    started_s = time.process_time()
    values: dict[str, list[np.ndarray]] = {name: [] for name in description.fields}
    for index in range(few):
        episode = dataset.episode(index)
        steps = range(episode.description.num_steps)
        # A loader that gives whole samples decodes what a statistic of numbers has no use for.
        for camera in episode.description.cameras:
            episode.frames(camera, steps)
        for name in values:
            values[name].append(episode.read(name))
    for parts in values.values():
        joined = np.concatenate(parts).reshape(few * STEPS_AN_EPISODE, -1)
        for statistic in (np.mean, np.std, np.min, np.max):
            statistic(joined, axis=0)
        np.quantile(joined, [0.01, 0.99], axis=0)
    decoding_s = (time.process_time() - started_s) / few
    return {
        "num_numbers_a_step": columns,
        "time_steps": WINDOW.length,
        "ours_cpu_s_an_episode": {name: round(s, 6) for name, s in ours_s.items()},
        "decoding_cpu_s_an_episode": round(decoding_s, 4),
        "ratio": {name: round(decoding_s / s, 1) for name, s in ours_s.items()},
        "ours_million_numbers_a_cpu_s": {
            name: round(columns * STEPS_AN_EPISODE / s / 1e6, 1) for name, s in ours_s.items()
        },
    }


def measure_steadiness(arguments: DataArguments, dataset: Dataset) -> dict[str, Any]:
    """A training step is a pause here, as it is for a CPU whose GPU works."""
    config = LoaderConfig(cache_gib=0, num_workers=arguments.workers, num_batches_ahead=4)
    episodes = range(max(1, len(dataset) // 8))
    source = RobotBatches(dataset, config, episodes)
    an_epoch = max(1, source.loader.num_windows // BATCH_SIZE)
    waits_s: list[float] = []
    memory_mib: list[float] = []
    batches = source.batches(0, arguments.epochs * an_epoch)
    for step in range(arguments.epochs * an_epoch):
        started_s = time.perf_counter()
        next(batches)
        waits_s.append(time.perf_counter() - started_s)
        time.sleep(TRAINING_STEP_S)
        if (step + 1) % an_epoch == 0:
            memory_mib.append(round(resident_bytes() / 2**20, 1))
    source.loader.close()
    # The first batch waits for the processes to start.
    waits = np.array(waits_s[1:])
    return {
        "training_step_s": TRAINING_STEP_S,
        "num_steps": len(waits),
        # What is left of a batch's own work in this process is no wait for data.
        "fraction_of_steps_that_waited_over_10_ms": round(float((waits > 0.01).mean()), 4),
        "median_ms_in_loader": round(float(np.median(waits)) * 1e3, 2),
        "resident_mib_after_each_epoch": memory_mib,
    }


def resident_bytes() -> int:
    """Of this process and its children, memory that they share counted once."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    total = 0
    for process in (str(own), *children):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total


def measure(arguments: DataArguments) -> dict[str, Any]:
    torch.set_num_threads(1)
    dataset, shards = prepare(arguments)
    num_frames = arguments.windows * len(dataset.episode(0).description.cameras)
    result: dict[str, Any] = {
        "workers": arguments.workers,
        "image_side": arguments.side,
        "images": "drawn: smooth shading, texture, moving shapes; JPEG quality 95",
        "kib_a_frame": round(num_bytes(Path(dataset.where)) / num_frames / 1024, 1),
    }
    if "loader" in arguments.only:
        result["loader"] = measure_loader(arguments, dataset, shards)
    if "statistics" in arguments.only:
        result["statistics"] = measure_statistics(dataset)
    if "steady" in arguments.only:
        result["steady"] = measure_steadiness(arguments, dataset)
    return result
