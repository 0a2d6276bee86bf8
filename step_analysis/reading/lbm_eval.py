"""LBM Eval's results, alone or in the trees of VLA Foundry.

The file is read by `results_json`; here it gets its names, which only the folders know.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from step_analysis.ledger import LedgerError
from step_analysis.reading.rename import Renaming
from step_analysis.reading.source import PolicySource, SourceFormat
from step_analysis.results_json import is_foundry_layout, policy_of, read_results
from step_analysis.rollouts import RolloutKey, RolloutRecord


@dataclass(kw_only=True)
class LbmEvalReader:
    """Reads the results files below one folder.

    Args:
        root: the folder that was named: how far a file lies below it decides the policy's name.
        renaming: of the rename.yaml in that folder.
    """

    root: Path
    renaming: Renaming
    count_infrastructure: bool
    _folder_of: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path, source_format: SourceFormat | None) -> PolicySource:
        """One file. `source_format` is what the user says it is: 'lbm-eval', 'foundry' or None.

        Raises:
            LedgerError: not such a file, not in Foundry's layout although it should be, or two
                folders are renamed to one policy.
            OSError: the file can't be read.
        """
        found = path.parent.name if source_format == "lbm-eval" else policy_of(path, self.root)
        if source_format == "foundry" and not is_foundry_layout(path):
            raise LedgerError(
                f"{path}: not in VLA Foundry's layout, "
                "[set/]policy/Task/rollouts/time/results.json; use --from lbm-eval"
            )
        policy = self.renaming.policy(found)
        earlier = self._folder_of.setdefault(policy, found)
        if earlier != found:
            raise LedgerError(
                f"{self.renaming.path}: models: {earlier!r} and {found!r} would both be "
                f"{policy!r}; give each a name of its own"
            )
        results = read_results(
            path,
            policy,
            task_names=self.renaming.tasks,
            count_infrastructure=self.count_infrastructure,
        )
        requested = _by_task([*results.records, *results.pending])
        budget = results.max_sample_size
        return PolicySource(
            path=path,
            policy=policy,
            records=results.records,
            requested=requested,
            budgets=dict.fromkeys(requested, budget) if budget is not None else {},
            scored_as_failure=[(k.task, k.scenario_index) for k in results.scored_as_failure],
        )


def _by_task(episodes: Iterable[RolloutRecord | RolloutKey]) -> dict[str, list[int]]:
    requested: dict[str, list[int]] = {}
    for each in episodes:
        requested.setdefault(each.task, []).append(each.scenario_index)
    return requested
