"""`trainer data inspect`."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.data.episode import Dataset
from trainer.data.field_geometry import has_position
from trainer.data.formats.catalog import open_dataset
from trainer.data.showing.contact_sheet import contact_sheet
from trainer.data.showing.overview import FieldFacts, Overview, overview

_DESCRIPTION = """Say what a data set holds, and draw it.

Prints episodes, hours, rates, fields with their ranges, cameras, tasks, instructions and outcomes.
--output draws a contact sheet: a section a camera, a row an episode, columns over time.

example: trainer data inspect demos/PickAndPlaceBox --output sheet.png"""

# Across or down: more would be a picture that nothing opens.
_MOST_TILES = 200


@dataclass(frozen=True, kw_only=True)
class InspectArguments:
    """What to look at.

    Attributes:
        source: Folder or file of episodes, in any known format.
        output: Where to write a contact sheet: a PNG or JPEG.
        episodes: Rows of the contact sheet, spread over the data set.
        columns: Columns of the contact sheet.
        ranges: Read all fields for their ranges; without, only descriptions are read.
        source_format: The format, where it is not recognised.
        json: Print one JSON object.
    """

    source: tyro.conf.Positional[str]
    output: Annotated[Path | None, tyro.conf.arg(metavar="SHEET.png")] = None
    episodes: int = 8
    columns: int = 8
    ranges: bool = True
    source_format: Annotated[str | None, tyro.conf.arg(name="from", metavar="FORMAT")] = None
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str]) -> int:
    """Raises DataError for data that cannot be read, UsageError for bad usage."""
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            InspectArguments,
            args=arguments,
            prog="trainer data inspect",
            description=_DESCRIPTION,
        )
    )
    if parsed.output is not None and parsed.output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"inspect: --output: expected a .png or .jpg file, got {parsed.output}")
    for name in ("episodes", "columns"):
        number = getattr(parsed, name)
        if not 1 <= number <= _MOST_TILES:
            raise UsageError(f"inspect: --{name}: expected 1 to {_MOST_TILES}, got {number}")
    dataset = open_dataset(parsed.source, parsed.source_format)
    facts = overview(dataset, ranges=parsed.ranges, progress=_progress("reading", "episode"))
    if parsed.json:
        print(json.dumps(facts.to_json(), indent=2))
    else:
        print("\n".join(map(printable, _table(facts))))
    if parsed.output is not None:
        _draw(dataset, facts, parsed.output, parsed.episodes, parsed.columns)
    return 0


def _progress(what: str, unit: str) -> Callable[[range], Any]:
    return lambda numbers: tqdm(
        numbers, desc=what, unit=unit, leave=False, file=sys.stderr, disable=None
    )


def _draw(dataset: Dataset, facts: Overview, output: Path, rows: int, columns: int) -> None:
    chosen = np.linspace(0, len(dataset) - 1, min(rows, len(dataset))).round().astype(int)
    sheet = contact_sheet(
        [dataset.episode(int(index)) for index in chosen],
        title=f"{facts.where}: {len(chosen)} of {facts.num_episodes} episodes",
        columns=columns,
        progress=_progress("drawing", "camera"),
    )
    # Aside and renamed: what shows the picture never sees half of one.
    partial = output.with_name(f".{uuid.uuid4().hex}.partial{output.suffix}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(partial)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    print(f"{output}: {sheet.width}x{sheet.height}", file=sys.stderr)


def _table(facts: Overview) -> Iterator[str]:
    size = "" if facts.num_bytes is None else f", {_bytes(facts.num_bytes)}"
    per_step = (
        "" if facts.num_bytes is None else f" ({_bytes(facts.num_bytes / facts.num_steps)} a step)"
    )
    yield f"{facts.where} ({facts.format_name}{size}{per_step})"
    yield (
        f"  episodes   {facts.num_episodes}, of {facts.shortest} to {facts.longest} steps; "
        f"{facts.num_steps} steps, {_duration(facts.duration_s)}"
    )
    yield f"  rate       {_tallied({f'{rate:g} Hz': n for rate, n in facts.rates_hz.items()})}"
    yield f"  outcomes   {_tallied(facts.outcomes)}"
    yield f"  tasks      {_tallied(facts.tasks) or 'none named'}"
    yield from _instructions(facts)
    yield ""
    yield from _columns(
        ("field", "shape", "kind", "unit", "range"),
        [_field_row(facts, name, one) for name, one in facts.fields.items()],
    )
    yield ""
    yield from _columns(
        ("camera", "size", "stored", "knows"),
        [
            (
                name,
                f"{view.width}x{view.height}",
                view.encoding,
                ", ".join(
                    ["intrinsics"] * view.has_intrinsics + ["extrinsics"] * view.has_extrinsics
                )
                or "neither intrinsics nor extrinsics",
            )
            for name, views in facts.cameras.items()
            for view in views
        ],
    )


def _instructions(facts: Overview) -> Iterator[str]:
    missing = facts.num_without_instruction
    told = [f"{missing} episodes without"] * (missing > 0)
    told += [f"{len(facts.instructions)} wordings"] * bool(facts.instructions)
    yield f"  language   {', '.join(told)}"
    common = sorted(facts.instructions.items(), key=lambda item: -item[1])
    for text, number in common[:5]:
        yield f"               {number:>5}  {text}"
    if len(common) > 5:
        yield f"               and {len(common) - 5} more"


def _field_row(facts: Overview, name: str, one: FieldFacts) -> tuple[str, ...]:
    notes = ""
    if one.num_not_finite:
        notes += f"; {one.num_not_finite} not finite"
    if one.num_episodes < facts.num_episodes:
        notes += f"; in {one.num_episodes} episodes"
    return (
        name,
        "x".join(map(str, one.described.shape)) or "1",
        one.described.kind,
        one.described.unit or "-",
        _range(one) + notes,
    )


def _range(one: FieldFacts) -> str:
    if one.low is None or one.high is None or not np.isfinite(one.low).any():
        return "-"
    if not has_position(one.described):
        return f"{one.low.min():.4g} to {one.high.max():.4g}"
    # Of a pose the position alone: a rotation's numbers are within -1 and 1 anyway.
    place = (3, 7, 11) if one.described.kind == "pose" else (0, 1, 2)
    return ", ".join(
        f"{axis} {one.low[index]:.3g} to {one.high[index]:.3g}"
        for axis, index in zip("xyz", place, strict=True)
    )


def _columns(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield (
            "  "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _tallied(numbers: dict[str, int]) -> str:
    if len(numbers) == 1:
        (only,) = numbers
        return only
    return ", ".join(f"{name} ({number})" for name, number in numbers.items())


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
