"""What the user sees while a study runs: how many rollouts, and where each comparison stands."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.study.comparisons import ComparisonStanding, Stage
from step_analysis.study.study import Study
from step_analysis.study.wording import panel_name, progress_line

_ROLLOUTS_A_PLAIN_LINE = 20


class Progress:
    """A bar with the state of each comparison on a terminal; elsewhere a plain line now and then.

    Each decision is told when it falls.
    """

    def __init__(self, study: Study, num_rollouts: int) -> None:
        """num_rollouts: those that are done already."""
        self._study = study
        self._num_rollouts = num_rollouts
        self._stages = _stages(study)
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        self._bar = tqdm(
            total=self._study.design.num_rollouts,
            initial=self._num_rollouts,
            unit="rollout",
            disable=None,
            dynamic_ncols=True,
        )
        self._bar.set_postfix_str(progress_line(self._study))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def note(self, record: RolloutRecord, *, will_retry: bool) -> None:
        """Show one attempt's end, and what it decided."""
        if record.outcome is Outcome.ERROR:
            then = "it will be run again" if will_retry else "no attempt is left in this run"
            self._say(f"{record.key}: error, no verdict, {then}: {record.message}")
            return
        self._num_rollouts += 1
        if self._bar is None or self._bar.disable:
            if self._num_rollouts % _ROLLOUTS_A_PLAIN_LINE == 0:
                self._say(f"{self._num_rollouts} rollouts; {progress_line(self._study)}")
        else:
            self._bar.set_postfix_str(progress_line(self._study), refresh=False)
            self._bar.update()
        stages = _stages(self._study)
        for comparison, stage in stages.items():
            if stage is not self._stages[comparison]:
                self._say(_told(comparison, stage, self._study))
        self._stages = stages

    def _say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)


_Comparison = tuple[tuple[str, ...], str, str]


def _stages(study: Study) -> dict[_Comparison, Stage]:
    return {(each.tasks, *each.arms): each.stage for each in study.standing().comparisons}


def _told(comparison: _Comparison, stage: Stage, study: Study) -> str:
    tasks, arm0, arm1 = comparison
    each: ComparisonStanding = next(
        each for each in study.standing().panel(tasks) if each.arms == (arm0, arm1)
    )
    if each.winner is not None:
        text = f"{each.winner} is better than {each.loser}"
    else:
        text = f"{arm0} and {arm1}: {stage}"
    return f"{panel_name(tasks)}: {text}, after {each.time} episodes of each"
