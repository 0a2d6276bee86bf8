"""What the figures share: their two widths, how policies are told apart, and axes of rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from step_analysis.report.content import PairRow, RateRow
from step_analysis.report.drawing import SMALL_TEXT_SIZE, Drawing, widest
from step_analysis.report.palette import policy_role
from step_analysis.report.wording import percent, points, points_range, range_text

WIDE_PIXELS = 912.0
NARROW_PIXELS = 360.0

_RATE_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_FEW_PIXELS = 260.0
"""On a narrower axis only the ends and the middle are labelled."""
_LABEL_GAP = 14.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The width to draw for, and every policy's index by name, which sets its colour."""

    width: float
    indices: Mapping[str, int]
    confidence: float

    @property
    def is_narrow(self) -> bool:
        return self.width < 600.0

    def colour(self, policy: str) -> str:
        return policy_role(self.indices[policy])

    def about(self, *policies: str) -> tuple[int, ...]:
        return tuple(self.indices[policy] for policy in policies)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis: `low` lies at the pixel `left`, `high` at `right`."""

    left: float
    right: float
    low: float = 0.0
    high: float = 1.0

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)


def draw_rate_grid(drawing: Drawing, axis: Axis, top: float, bottom: float) -> None:
    """Lines at quarters from top to bottom, and their rates in the 18 pixels below."""
    for tick in _RATE_TICKS:
        x = axis.x(tick)
        drawing.line([(x, top), (x, bottom)], "line")
        if axis.right - axis.left >= _FEW_PIXELS or tick in {0.0, 0.5, 1.0}:
            drawing.text(
                x,
                bottom + 15.0,
                f"{100.0 * tick:.0f} %",
                size=SMALL_TEXT_SIZE,
                colour="muted",
                anchor="middle",
            )


def label_room(names: Sequence[str], most: float, size: float = 12.0) -> float:
    """The width of a column of labels with its gap."""
    return min(widest(names, size), most) + _LABEL_GAP


def rate_tip(row: RateRow, where: str, confidence: float) -> str:
    """What a rate says when pointed at."""
    lines = [row.policy, where]
    if row.rate is None:
        lines.append("no counted episode")
    else:
        lines.append(f"{row.successes} of {row.num_counted}: {percent(row.rate)}")
        lines.append(f"{percent(confidence)} interval {range_text(row.clopper_pearson)}")
    if row.letters:
        lines.append(f"letters {row.letters}")
    if row.num_errors or row.num_missing:
        lines.append(f"not counted: {left_out_text(row)}")
    return "\n".join(lines)


def left_out_text(row: RateRow) -> str:
    """What a rate leaves out: '1 error, 3 missing', or '0'."""
    parts = []
    if row.num_errors:
        parts.append("1 error" if row.num_errors == 1 else f"{row.num_errors} errors")
    if row.num_missing:
        parts.append(f"{row.num_missing} missing")
    return ", ".join(parts) or "0"


def pair_tip(pair: PairRow, where: str, confidence: float) -> str:
    """What a pair says when pointed at; differences are of the first named minus the second."""
    upper, lower, difference, interval = leading(pair)
    lines = [f"{upper} − {lower}", where]
    if difference is not None:
        lines.append(
            f"{points(difference)}, {percent(confidence)} interval {points_range(interval)}"
        )
    if pair.winner is None:
        lines.append(f"{pair.method}: undecided after {pair.time} of {pair.n_max}")
    else:
        lines.append(f"{pair.method}: {pair.winner} better, after {pair.time} of {pair.n_max}")
    return "\n".join(lines)


def leading(pair: PairRow) -> tuple[str, str, float | None, tuple[float, float] | None]:
    """The winner, or else the arm with the higher rate, then the other; their difference."""
    arm1_first = pair.winner == pair.arm1 or (
        pair.winner is None and (pair.difference is None or pair.difference >= 0.0)
    )
    if pair.difference is None or pair.difference_interval is None:
        names = (pair.arm1, pair.arm0) if arm1_first else (pair.arm0, pair.arm1)
        return *names, None, None
    low, high = pair.difference_interval
    if arm1_first:
        return pair.arm1, pair.arm0, pair.difference, (low, high)
    return pair.arm0, pair.arm1, 0.0 - pair.difference, (0.0 - high, 0.0 - low)
