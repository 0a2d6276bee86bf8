"""`trainer data convert SOURCE DESTINATION`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from policy_interface.contract import ContractError, ImageSize
from policy_interface.usage import parse_or_say_why
from trainer.data.conversion import (
    ConversionOptions,
    ConversionSummary,
    Executor,
    Source,
    convert,
)
from trainer.data.conversion_job import Outcome
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.writer import DatasetWriter
from trainer.data.image_files import ImageSettings
from trainer.data.selection import Selection

# Imported when they are asked for, because some want packages that others don't.
_WRITERS = {
    "native": "trainer.data.formats.native_writer:NativeWriter",
    "lerobot-v3": "trainer.data.formats.lerobot_writer:LeRobotWriter",
    "foundry": "trainer.data.formats.foundry_writer:FoundryWriter",
}

_DESCRIPTION = """\
Convert robot data of any format that is known here. What was stopped goes on when the same is \
asked again.

example: trainer data convert demos/PickAndPlaceBox data/box --only-success --workers 4"""

_Flag = tyro.conf.FlagCreatePairsOff


@dataclass(frozen=True, kw_only=True)
class ConvertArguments:
    """Convert robot data.

    Attributes:
        source: A folder or file, here or at s3://, gs:// or hf://.
        destination: A local folder, new, empty or with this very conversion unfinished.
        to: The format to write: native is the one to train from.
        from_: The source's format, where it is not recognised.
        workers: Processes, by default one a CPU; 0 converts in this one.
        executor: local, or ray: the cluster of RAY_ADDRESS, or one on this machine.
        skip_bad: Go on without episodes that cannot be read; they are counted and listed.
        max_bad: With --skip-bad, how many may be bad before the conversion is refused.
        encoding: Of frames: jpeg or png, png losing nothing, or for lerobot-v3 a video's h264
            (its default) or av1. JPEG files are copied as they are.
        quality: Of JPEG, 1 to 100.
        resize: Resize frames to WIDTHxHEIGHT, such as 224x224; intrinsics follow.
        episodes: FIRST:END, places in the source, the last one left out.
        only_success: Leave out episodes that failed or that nobody judged.
        tasks: Only episodes of these tasks.
        verify: Read everything back and compare it with its checksums (native only).
        json: Print JSON.
    """

    source: tyro.conf.Positional[str]
    destination: tyro.conf.Positional[Path]
    to: Literal["native", "lerobot-v3", "foundry"] = "native"
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    workers: int | None = None
    executor: Executor = "local"
    skip_bad: Annotated[bool, _Flag] = False
    max_bad: int = 10
    encoding: Literal["jpeg", "png", "h264", "av1"] | None = None
    quality: int = 95
    resize: str | None = None
    episodes: str | None = None
    only_success: Annotated[bool, _Flag] = False
    tasks: tuple[str, ...] | None = None
    verify: Annotated[bool, _Flag] = False
    json: Annotated[bool, _Flag] = False


def main(arguments: Sequence[str]) -> int:
    """Raises DataError and UsageError."""
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            ConvertArguments,
            prog="trainer data convert",
            description=_DESCRIPTION,
            args=list(arguments),
        )
    )
    source = Source.at(parsed.source, parsed.from_)
    options = _options(parsed)
    writer = _writer(parsed)
    bar = tqdm(unit="episode", disable=parsed.json or not sys.stderr.isatty())

    def progress(done: int, total: int, outcome: Outcome | None) -> None:
        bar.total, bar.n = total, done
        if outcome is None:
            # What an earlier run did says nothing of how long the rest takes.
            bar.initial = done
        elif outcome.bad is not None and parsed.skip_bad:
            bar.write(f"bad episode, number {outcome.index}: {outcome.bad}", file=sys.stderr)
        bar.refresh()

    try:
        with bar:
            summary = convert(source, writer, options, progress)
    except KeyboardInterrupt:
        print(
            "trainer: interrupted; the episodes written so far are whole, and the same command "
            "goes on from there",
            file=sys.stderr,
        )
        return 130
    except OSError as error:
        # Ray's errors hold the whole story of the worker; its last line is the error.
        told = error.strerror or str(error).strip().splitlines()[-1]
        raise OSError(
            f"{writer.destination}: {told}; the episodes written so far are "
            "whole: mend that, and the same command goes on from there"
        ) from error
    if parsed.verify:
        _verify(parsed.destination)
    print(json.dumps(asdict(summary), indent=2) if parsed.json else _in_words(summary))
    return 0


def _options(parsed: ConvertArguments) -> ConversionOptions:
    first, end = Selection.parse_range(parsed.episodes or ":")
    if (parsed.workers or 0) < 0 or parsed.max_bad < 0:
        raise DataError("--workers and --max-bad: expected 0 or more")
    num_workers = parsed.workers
    if num_workers is None and parsed.executor == "local":
        num_workers = os.cpu_count() or 1
    return ConversionOptions(
        selection=Selection(
            first=first, end=end, only_success=parsed.only_success, tasks=parsed.tasks
        ),
        executor=parsed.executor,
        num_workers=num_workers,
        max_bad=parsed.max_bad if parsed.skip_bad else 0,
    )


def _writer(parsed: ConvertArguments) -> DatasetWriter:
    if "://" in str(parsed.destination):
        raise DataError("expected a local folder to write to", where=parsed.destination)
    if parsed.verify and parsed.to != "native":
        raise DataError("--verify: only the native format has checksums")
    try:
        size = ImageSize.parse(parsed.resize) if parsed.resize else None
    except ContractError as error:
        raise DataError(f"--resize: {error}") from error
    is_lerobot = parsed.to == "lerobot-v3"
    encoding = parsed.encoding or ("h264" if is_lerobot else "jpeg")
    is_video = encoding in ("h264", "av1")
    if is_video and not is_lerobot:
        raise DataError(f"--encoding {encoding}: --to {parsed.to} holds images, jpeg or png")
    images = ImageSettings(
        encoding="png" if encoding == "png" else "jpeg", quality=parsed.quality, size=size
    )
    module, _, name = _WRITERS[parsed.to].partition(":")
    made = getattr(importlib.import_module(module), name)
    destination = parsed.destination.absolute()
    if is_lerobot:
        from trainer.data.video_writing import VideoSettings

        video = VideoSettings(codec="av1" if encoding == "av1" else "h264") if is_video else None
        return made(destination=destination, images=images, video=video)
    return made(destination=destination, images=images)


def _verify(destination: Path) -> None:
    from trainer.data.formats.native import NativeDataset

    dataset = open_dataset(destination, NativeDataset.format_name)
    assert isinstance(dataset, NativeDataset)
    found = [str(error) for error in dataset.verify() if error is not None]
    if found:
        raise DataError(f"corrupt: {'; '.join(found)}", where=destination)


def _in_words(summary: ConversionSummary) -> str:
    kept = f", {summary.num_kept} of them by an earlier run" if summary.num_kept else ""
    lines = [
        f"{summary.destination}: {summary.num_episodes} episodes{kept}; "
        f"{summary.num_steps} steps, {summary.num_bytes / 1e6:.1f} MB"
    ]
    lines += [f"  left out: {count} because {why}" for why, count in summary.left_out.items()]
    lines += [f"  skipped: number {index}: {why}" for index, why in summary.skipped.items()]
    return "\n".join(lines)
