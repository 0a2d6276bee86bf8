"""`step-analysis plan`."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from step_analysis.usage import UsageError

if TYPE_CHECKING:
    from step_analysis.planning.characteristics import TrueRates
    from step_analysis.planning.pilot import Pilot
    from step_analysis.planning.sample_size import Budget

_PLOT_SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how many episodes it takes to tell two success rates apart.

    For one verdict over all tasks together, and for a verdict on each task by itself; exact but
    for the tasks' different difficulty, which only makes the overall verdict easier.

    Example: step-analysis plan --from 0.6 --to 0.7 --tasks 16 --power 0.8

    With a pilot: step-analysis plan --from 0.6 --to 0.7 --method paired --pilot rollouts
    """

    from_rate: Annotated[float, tyro.conf.arg(name="from")]
    """Success rate of the first policy."""
    to_rate: Annotated[float, tyro.conf.arg(name="to")]
    """Success rate of the second policy."""
    tasks: int = 1
    """Number of tasks."""
    power: float = 0.8
    """Wished chance of the right verdict."""
    alpha: float = 0.05
    """Bound on the chance of a false verdict."""
    sides: Literal["one", "two"] = "two"
    """Whether alpha bounds each direction by itself, or both together."""
    method: Literal["auto", "step", "lai", "paired", "mcnemar", "barnard", "fisher"] = "auto"
    """Test; auto is STEP where that needs up to 1000 episodes, otherwise Lai."""
    discordance: float | None = None
    """Chance that exactly one policy succeeds on a seed, for mcnemar and paired; independent
    policies if not given."""
    pilot: Path | None = None
    """Rollouts of two policies on the same seeds: their discordance is taken for mcnemar and
    paired, and the time of their episodes."""
    seconds_per_episode: float | None = None
    """Real time of one rollout, for the cost in simulator-hours."""
    plot: Path | None = None
    """File for a plot of power against budget: .png, .svg or .pdf."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the budgets."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.methods import per_side
        from step_analysis.planning.characteristics import TrueRates
        from step_analysis.planning.sample_size import needed_budget, rounded_up

        if self.tasks < 1:
            raise UsageError(f"--tasks must be at least 1, got {self.tasks}")
        for option, rate in (("--from", self.from_rate), ("--to", self.to_rate)):
            if not 0.0 <= rate <= 1.0:
                raise UsageError(f"{option} must lie within [0, 1], got {rate:g}")
        if self.seconds_per_episode is not None and not 0.0 < self.seconds_per_episode < 1e6:
            raise UsageError(
                f"--seconds-per-episode must lie within 0 to 1e6, got {self.seconds_per_episode:g}"
            )
        if self.plot is not None and self.plot.suffix.lower() not in _PLOT_SUFFIXES:
            raise UsageError(f"--plot {self.plot}: {', '.join(_PLOT_SUFFIXES)} expected")
        if self.discordance is not None and self.pilot is not None:
            raise UsageError("--discordance and --pilot: expected one of them")
        if self.discordance is not None and self.method not in ("mcnemar", "paired"):
            raise UsageError(
                f"--discordance is for the methods mcnemar and paired, got method {self.method}"
            )
        try:
            pilot, seconds = self._pilot()
            discordance = self.discordance
            if pilot is not None and self.method in ("mcnemar", "paired"):
                discordance = self._possible(pilot.discordance)
            rates = TrueRates(p0=self.from_rate, p1=self.to_rate, discordance=discordance)
            alpha_per_side = per_side(self.alpha, self.sides)
            each = needed_budget(
                rates, power=self.power, alpha_per_side=alpha_per_side, method=self.method
            )
            overall = rounded_up(each, rates, alpha_per_side=alpha_per_side, step=self.tasks)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if self.plot is not None:
            self._draw(self.plot, overall, rates, alpha_per_side)
        result = dataclasses.asdict(overall) | {
            "episodes_per_task": overall.n_max // self.tasks,
            "rollouts": 2 * overall.n_max,
            "expected_rollouts": 2.0 * overall.expected_n,
            "each_task": dataclasses.asdict(each)
            | {
                "rollouts": 2 * each.n_max * self.tasks,
                "expected_rollouts": 2.0 * each.expected_n * self.tasks,
            },
            "discordance": discordance,
            "seconds_per_episode": seconds,
            "simulator_hours": _hours(2 * overall.n_max, seconds),
            "expected_simulator_hours": _hours(2.0 * overall.expected_n, seconds),
        }
        if self.json:
            print(json.dumps(result, allow_nan=False))
            return
        what = "On one task" if self.tasks == 1 else "On each task by itself"
        print(_sentence(what, each, self.tasks, seconds))
        if self.tasks > 1:
            print(_sentence(f"Over {self.tasks} tasks together", overall, 1, seconds))
            print(f"That is {overall.n_max // self.tasks} episodes of each task and policy.")
        if pilot is not None:
            low, high = pilot.discordance_interval()
            print(
                f"The pilot: {pilot.policy0} and {pilot.policy1} differ on "
                f"{pilot.only0 + pilot.only1} of {pilot.num_pairs} seeds, a discordance of "
                f"{pilot.discordance:.3f} (95 % interval {low:.3f} to {high:.3f})."
            )
            if discordance is not None and discordance != pilot.discordance:
                print(
                    f"With these rates it can't be that; {discordance:.3f}, the nearest, is taken."
                )
        print(f"On how many simulators: sim-client plan --episodes {2 * overall.n_max}.")
        if self.plot is not None:
            print(f"Plot: {self.plot}")

    def _pilot(self) -> "tuple[Pilot | None, float | None]":
        """The pilot, and the real time of an episode, where either is known."""
        if self.pilot is None:
            return None, self.seconds_per_episode
        from step_analysis.loading import read_rollouts
        from step_analysis.planning.pilot import pilot_of, seconds_per_episode

        policies = read_rollouts([self.pilot]).policies
        return pilot_of(policies), self.seconds_per_episode or seconds_per_episode(policies)

    def _possible(self, discordance: float) -> float:
        """The nearest discordance that policies with these rates can have."""
        low = abs(self.to_rate - self.from_rate)
        both = self.from_rate + self.to_rate
        return min(max(discordance, low), min(both, 2.0 - both))

    def _draw(
        self, path: Path, budget: "Budget", rates: "TrueRates", alpha_per_side: float
    ) -> None:
        from step_analysis.atomic_file import write_atomically
        from step_analysis.planning.power_curve import power_curve
        from step_analysis.report.figures.layout import WIDE_PIXELS
        from step_analysis.report.figures.power import power_figure
        from step_analysis.report.pdf import pdf_file
        from step_analysis.report.png import png_file
        from step_analysis.report.svg import svg_file

        title = (
            f"{self.from_rate:g} against {self.to_rate:g}, {budget.method}, alpha {self.alpha:g}: "
            f"{budget.n_max} episodes of each policy for a power of {budget.power:.3f}"
        )
        points = power_curve(budget, rates, alpha_per_side=alpha_per_side)
        drawing = power_figure(
            points, needed=budget.n_max, wished=self.power, title=title, width=WIDE_PIXELS
        )
        match path.suffix.lower():
            case ".svg":
                content: bytes | str = svg_file(drawing, "light", title)
            case ".pdf":
                content = pdf_file(drawing, "light", title)
            case _:
                content = png_file(drawing, "light")
        write_atomically(path, content)


def _hours(rollouts: float, seconds: float | None) -> float | None:
    return None if seconds is None else rollouts * seconds / 3600.0


def _sentence(what: str, budget: "Budget", times: int, seconds: float | None) -> str:
    expected, most = 2.0 * budget.expected_n * times, 2 * budget.n_max * times
    hours = ""
    if seconds is not None:
        hours = (
            f", {_hours(expected, seconds):.1f} of {_hours(most, seconds):.1f} simulator-hours at "
            f"{seconds:.1f} s each"
        )
    return (
        f"{what}: {budget.n_max} episodes of each policy ({budget.method}, power "
        f"{budget.power:.3f}); expected {expected:.0f} of {most} rollouts in all{hours}."
    )
