"""`step-analysis letters`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from step_analysis.verbs.comparison_options import ComparisonOptions


@dataclass(frozen=True, kw_only=True)
class Letters(ComparisonOptions):
    """Say which policies can be told apart on each task: those that share no letter.

    With --json prints {task: {policy: {"successes", "n", "interval", "letters"}}}; over all common
    tasks under "__aggregate__".

    Example: step-analysis letters eval_results --json
    """

    json: bool = False
    """Print one JSON object."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print successes, intervals and letters."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.panel_table import letters_document, table_text

        rows = self.rows()
        if self.json:
            print(json.dumps(letters_document(rows), allow_nan=False))
        else:
            print(table_text(rows, "text"), end="")
