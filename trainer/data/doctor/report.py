"""What the doctor found, in lines for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence

from trainer.data.doctor.finding import Finding, Severity


def told(findings: Sequence[Finding], num_parts: int, part: str = "episode") -> Iterator[str]:
    """Lines for a terminal. num_parts: of how many the data set consists, each called `part`."""
    width = min(shutil.get_terminal_size().columns, 110)
    for finding in findings:
        subject = f"  {finding.subject}" if finding.subject else ""
        yield f"{finding.severity.value.upper():<8} {finding.check}{_shortened(subject, 3 * width)}"
        for label, text in (
            ("measured", finding.measured),
            ("where", _where(finding, num_parts, part)),
            ("costs", finding.cost),
            ("mend", finding.remedy),
        ):
            if text:
                yield from textwrap.wrap(
                    text,
                    width,
                    initial_indent=f"         {label:<9}",
                    subsequent_indent=" " * 18,
                )
        yield ""


def verdict(findings: Sequence[Finding]) -> str:
    """How many there are of each severity."""
    if not findings:
        return "Nothing found."
    numbers = [
        (sum(finding.severity is severity for finding in findings), severity.value)
        for severity in Severity
    ]
    return (
        ", ".join(f"{number} {name}" + "s" * (number != 1) for number, name in numbers if number)
        + "."
    )


def _where(finding: Finding, num_parts: int, part: str) -> str:
    if not finding.episodes:
        return ""
    shown = ", ".join(finding.episodes[:4])
    more = len(finding.episodes) - 4
    text = f"{len(finding.episodes)} of {num_parts} {part}s: {shown}"
    text += f" and {more} more" if more > 0 else ""
    if finding.steps is not None:
        start, stop = finding.steps
        steps = f"step {start}" if stop == start + 1 else f"steps {start} to {stop - 1}"
        text += f" ({steps} of the first)"
    return text


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
