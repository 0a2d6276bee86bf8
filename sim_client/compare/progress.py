"""What the user sees while a study runs: how many rollouts, and where each comparison stands."""

from __future__ import annotations

from sim_client.evaluation.progress_bar import ProgressBar, told_of_error
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.study.comparisons import ComparisonStanding, Stage
from step_analysis.study.study import Study
from step_analysis.study.wording import panel_name, progress_line

_ROLLOUTS_A_PLAIN_LINE = 20


class Progress(ProgressBar):
    """A bar with the state of each comparison on a terminal; elsewhere a plain line now and then.

    Each decision is told when it falls.
    """

    def __init__(self, study: Study, num_rollouts: int) -> None:
        """num_rollouts: those that are done already."""
        self._study = study
        self._num_rollouts = num_rollouts
        self._stages = _stages(study)
        super().__init__(
            study.design.num_rollouts, num_rollouts, unit="rollout", state=progress_line(study)
        )

    def note(self, record: RolloutRecord, *, will_retry: bool) -> None:
        """Show one attempt's end, and what it decided."""
        if record.outcome is Outcome.ERROR:
            self.say(told_of_error(str(record.key), record.message, will_retry=will_retry))
            return
        self._num_rollouts += 1
        state = progress_line(self._study)
        is_told = self._num_rollouts % _ROLLOUTS_A_PLAIN_LINE == 0
        line = f"{self._num_rollouts} rollouts; {state}"
        self.advance(state, plain_line=line if is_told else None)
        stages = _stages(self._study)
        for comparison, stage in stages.items():
            if stage is not self._stages[comparison]:
                self.say(_told(comparison, stage, self._study))
        self._stages = stages


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
