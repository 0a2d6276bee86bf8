"""All policies of a study by rank, with ties: as a table to read and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from step_analysis.study.comparisons import ComparisonStanding, Stage
from step_analysis.study.study import Study
from step_analysis.study.wording import guarantee, panel_letters, panel_name

RANKING_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One policy on some tasks.

    place: one more than the policies that are shown to be better. letters: shared by policies that
    are not shown to differ. total: successes, or the sum of the scores, in `episodes` of all tasks
    together, those that some verdict here rests on. num_open: comparisons that more rollouts may
    decide.
    """

    place: int
    policy: str
    letters: str
    total: float
    episodes: int
    num_open: int

    @property
    def mean(self) -> float | None:
        return self.total / self.episodes if self.episodes else None


def ranking(study: Study, tasks: Sequence[str]) -> list[Ranked]:
    """The policies on the tasks of one panel, best first."""
    panel = study.standing().panel(tasks)
    ranked = []
    for policy, letters in panel_letters(study, panel).items():
        own = [each for each in panel if policy in each.arms]
        episodes = max(each.time for each in own)
        ranked.append(
            Ranked(
                place=1 + sum(each.loser == policy for each in own),
                policy=policy,
                letters=letters,
                total=float(study.tape.read(policy, tuple(tasks), episodes).sum()),
                episodes=episodes,
                num_open=sum(each.stage is Stage.OPEN for each in own),
            )
        )
    return sorted(ranked, key=lambda each: each.place)


def ranking_table(study: Study) -> str:
    """A table for each panel, that of all tasks together last, and what alpha bounds."""
    return "\n\n".join([*(_table(study, tasks) for tasks in study.design.panels), guarantee(study)])


def ranking_json(study: Study) -> str:
    """The same with every comparison, ending with a newline."""
    design, standing = study.design, study.standing()
    value = {
        "version": RANKING_VERSION,
        "policies": [{"name": p.name, "digest": p.digest} for p in design.policies],
        "measure": design.measure,
        "alpha": design.alpha,
        "correction": design.correction,
        "guarantee": guarantee(study),
        "is_finished": standing.is_finished,
        "panels": [
            {
                "tasks": list(tasks),
                "ranking": [asdict(each) | {"mean": each.mean} for each in ranking(study, tasks)],
                "comparisons": [_comparison(each) for each in standing.panel(tasks)],
            }
            for tasks in design.panels
        ],
    }
    return json.dumps(value, allow_nan=False, indent=2) + "\n"


def _comparison(each: ComparisonStanding) -> dict[str, object]:
    return {
        "policies": list(each.arms),
        "stage": each.stage.value,
        "winner": each.winner,
        "episodes": each.time,
        "budget": each.n_max,
        "alpha_per_side": each.alpha_per_side,
    }


def _table(study: Study, tasks: Sequence[str]) -> str:
    rows = ranking(study, tasks)
    what = "successes" if study.design.measure == "success" else "score"
    number = ".0f" if study.design.measure == "success" else ".1f"
    lines = [("place", "policy", "letters", f"{what} of episodes", "mean", "open")]
    lines += [
        (
            str(row.place),
            row.policy,
            row.letters,
            f"{row.total:{number}} of {row.episodes}",
            "-" if row.mean is None else f"{row.mean:.3f}",
            str(row.num_open),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([f"{panel_name(tasks)}:", *padded])
