"""`step-analysis compare`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from step_analysis.usage import UsageError

if TYPE_CHECKING:
    from step_analysis.loading import PolicyRollouts
    from step_analysis.report.content import PairRow

WORSE = 1
"""Exit code where the new policy is shown to be worse and --fail-if-worse is given."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Say whether a new policy is better or worse than an old one, for a pull request or a CI.

    Each folder holds the rollouts of one policy; both may have the same name. Exits with 0, with 2
    for bad input, and with --fail-if-worse with 1 where the new policy is shown to be worse, on a
    task or over all. Undecided is not worse: what a budget can show says step-analysis plan.

    Example: step-analysis compare rollouts/main rollouts/branch --fail-if-worse
    """

    old: tyro.conf.Positional[Path]
    """Rollouts of the policy that is known."""
    new: tyro.conf.Positional[Path]
    """Rollouts of the policy in question."""
    fail_if_worse: bool = False
    """Exit with 1 where the new policy is shown to be worse."""
    alpha: float = 0.05
    """Largest chance of any wrong verdict, over all tasks together."""
    method: Literal["auto", "step", "lai", "savi", "paired", "mcnemar", "barnard", "fisher"] = (
        "auto"
    )
    """Test; auto is STEP where its table ships or is quick to make, otherwise Lai."""
    confidence: float = 0.95
    """Confidence of the intervals."""
    strict: bool = False
    """Refuse rollouts in which the doctor finds an error or a warning."""
    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the verdicts, and exit."""
        del arguments
        for name in ("alpha", "confidence"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise UsageError(f"--{name} must lie strictly between 0 and 1, got {value:g}")
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.comparison import compare
        from step_analysis.report.content import build_content

        old, new = self._read(self.old), self._read(self.new)
        if old.policy == new.policy:
            old = replace(old, policy=f"old/{old.policy}")
            new = replace(new, policy=f"new/{new.policy}")
        shared = old.tasks.keys() & new.tasks.keys()
        if not shared:
            raise UsageError(
                f"{self.old} and {self.new} have no task in common: {', '.join(sorted(old.tasks))} "
                f"against {', '.join(sorted(new.tasks))}"
            )
        # One family: any wrong verdict counts, on whichever task.
        try:
            comparison = compare(
                [old, new], self.alpha, self.method, correction="holm", family="study"
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        content = build_content(comparison, confidence=self.confidence, arguments=(), findings=())
        rows = {panel.title: pair for panel in content.panels for pair in panel.pairs}
        worse = [title for title, pair in rows.items() if pair.winner == old.policy]
        if self.json:
            verdicts = {title: asdict(pair) for title, pair in rows.items()}
            told = {"old": old.policy, "new": new.policy, "worse_on": worse, "verdicts": verdicts}
            print(json.dumps(told, allow_nan=False))
        else:
            for title, pair in rows.items():
                print(f"{_verdict(pair, old.policy, new.policy):<9} {title}: {pair.sentence}")
        if worse and self.fail_if_worse:
            print(f"step-analysis: worse on {', '.join(worse)}", file=sys.stderr)
            sys.exit(WORSE)

    def _read(self, path: Path) -> "PolicyRollouts":
        from step_analysis.verbs.rollout_paths import check_findings, read_paths

        rollouts = read_paths([path], source_format=None, count_infrastructure=False)
        check_findings(rollouts, is_strict=self.strict)
        if len(rollouts.policies) != 1:
            names = ", ".join(policy.policy for policy in rollouts.policies)
            raise UsageError(f"{path}: one policy expected, got {names}; name its folder")
        return rollouts.policies[0]


def _verdict(pair: "PairRow", old: str, new: str) -> str:
    if pair.winner == new:
        return "better"
    return "worse" if pair.winner == old else "undecided"
