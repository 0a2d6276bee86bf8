"""The verbs of `step-analysis`: each a frozen dataclass of options with a method `run`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from step_analysis.verbs.compare import Compare
from step_analysis.verbs.dashboard import Dashboard
from step_analysis.verbs.doctor import Doctor
from step_analysis.verbs.letters import Letters
from step_analysis.verbs.merge import Merge
from step_analysis.verbs.plan import Plan
from step_analysis.verbs.power import Power
from step_analysis.verbs.report import Report
from step_analysis.verbs.synthesize import Synthesize
from step_analysis.verbs.table import Table
from step_analysis.verbs.test import Test
from step_analysis.verbs.verify import Verify


class Verb(Protocol):
    """One command. `run` prints its result and raises UsageError or LedgerError for bad input."""

    def run(self, arguments: Sequence[str] = ()) -> None: ...


VERBS: Mapping[str, type[Verb]] = {
    "report": Report,
    "compare": Compare,
    "dashboard": Dashboard,
    "table": Table,
    "letters": Letters,
    "doctor": Doctor,
    "merge": Merge,
    "test": Test,
    "power": Power,
    "plan": Plan,
    "synthesize": Synthesize,
    "verify": Verify,
}
