"""`step-analysis table`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from step_analysis.verbs.comparison_options import ComparisonOptions


@dataclass(frozen=True, kw_only=True)
class Table(ComparisonOptions):
    """Make the table of a comparison: successes, rates, intervals and letters by task.

    Example: step-analysis table eval_results --format markdown
    """

    table_format: Annotated[Literal["text", "markdown", "csv"], tyro.conf.arg(name="format")] = (
        "text"
    )
    """Aligned text, a Markdown table, or CSV with every digit."""
    json: bool = False
    """Print one JSON object instead, as `letters` does."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Print the table."""
        del arguments
        # Here, not above: --help and a mistyped option answer without loading the numerics.
        from step_analysis.panel_table import letters_document, table_text

        rows = self.rows()
        if self.json:
            print(json.dumps(letters_document(rows), allow_nan=False))
        else:
            print(table_text(rows, self.table_format), end="")
