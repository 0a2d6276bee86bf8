"""`step-analysis merge`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from step_analysis.ledger import merge_ledgers
from step_analysis.usage import UsageError


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Join ledgers into a new one, each record once.

    Example: step-analysis merge machine-a/ledger.jsonl machine-b/ledger.jsonl --output all.jsonl
    """

    ledgers: tyro.conf.Positional[tuple[Path, ...]]
    """Ledgers to join."""
    output: Path
    """The new ledger; it must not exist."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Join the ledgers."""
        if not self.ledgers:
            raise UsageError("name at least one ledger to join")
        records = merge_ledgers(self.ledgers, self.output)
        print(f"{self.output}: {len(records)} records of {len(self.ledgers)} ledgers")
