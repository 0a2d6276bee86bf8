"""`trainer data stats SOURCE`: every field's statistics, as a table or a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.data.formats.catalog import open_dataset
from trainer.data.statistics.collect import collect_statistics, relative_poses
from trainer.data.statistics.field_statistics import DatasetStatistics
from trainer.data.windows import WindowSpec

_COLUMNS = ("mean", "std", "min", "1 %", "99 %", "max")


@dataclass(frozen=True, kw_only=True)
class StatsArguments:
    """Statistics of every field of numbers, in one pass that decodes no frame.

    Attributes:
        source: Data in a known format.
        from_format: The source's format, where it is not recognised.
        past: Control steps before the anchor, for statistics per time step.
        future: Control steps after the anchor.
        output: File to write, as JSON; it merges with others' and normalisation is built from it.
        json: Print that JSON instead of a table.
        processes: Processes that read and sort; the result is the same.
    """

    source: tyro.conf.Positional[str]
    from_format: Annotated[str | None, tyro.conf.arg(name="from")] = None
    past: int = 0
    future: int = 15
    output: Path | None = None
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    processes: int = os.cpu_count() or 1


def main(words: Sequence[str]) -> int:
    """Returns 0. Raises UsageError, DataError, OSError."""
    arguments = parse_or_say_why(
        lambda: tyro.cli(
            StatsArguments,
            args=words,
            prog="trainer data stats",
            description="Statistics of every field of numbers, in one pass that decodes no frame: "
            "moments exactly, percentiles by t-digest, overall and per time step around the "
            "anchor; and of commanded poses relative to where the arm was measured.\n\n"
            "example: trainer data stats demos/PickAndPlaceBox --output statistics.json",
        )
    )
    if arguments.processes < 1:
        raise UsageError(f"--processes: expected at least 1, got {arguments.processes}")
    dataset = open_dataset(arguments.source, arguments.from_format)
    vectors = relative_poses(dataset.episode(0).description.fields) if len(dataset) else {}
    with tqdm(total=len(dataset), unit="episode", disable=None) as progress:
        statistics = collect_statistics(
            dataset,
            WindowSpec(past=arguments.past, future=arguments.future),
            vectors=vectors,
            num_processes=arguments.processes,
            on_episodes=progress.update,
        )
    if arguments.output is not None:
        statistics.save(arguments.output)
    print(statistics.to_json() if arguments.json else _table(statistics), end="")
    return 0


def _table(statistics: DatasetStatistics) -> str:
    (source,) = statistics.sources
    lines = [
        f"{source.where} ({source.format_name}): {statistics.num_episodes} episodes, "
        f"{statistics.num_steps} control steps, digest {source.digest[:16]}",
        "",
    ]
    rows: list[tuple[str, ...]] = [("", *_COLUMNS, "not finite")]
    for name, each in statistics.fields.items():
        overall = each.overall
        low, high = overall.quantiles([0.01, 0.99])
        for i in range(overall.num_columns):
            label = each.names[i] if each.names else f"[{i}]" if overall.num_columns > 1 else ""
            numbers = (
                (overall.mean, overall.std, overall.minimum, low, high, overall.maximum)
                if overall.count[i]
                else ()
            )
            cells = [f"{values[i]:.5g}" for values in numbers] or ["none"] * len(_COLUMNS)
            missing = int(overall.num_not_finite[i])
            rows.append((f"{name} {label}".strip(), *cells, str(missing) if missing else ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for name, *cells in rows:
        line = name.ljust(widths[0])
        for cell, width in zip(cells, widths[1:], strict=True):
            line += f"  {cell:>{width}}"
        lines.append(line.rstrip())
    return "\n".join(map(printable, lines)) + "\n"
