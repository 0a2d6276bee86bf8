"""docs/results.md and its figures, drawn from the ledgers in docs/results: `make results`.

    python examples/results.py                              # draw the page again
    python examples/results.py collect one_task runs/policies/PickAndPlaceBox

collects a run's folder as `examples/policies.py`, `examples/chain.py` or `examples/pretraining.py`
leaves it: its training and every evaluation in it that is at its end. The ledgers are what is kept;
runs are not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from results_collecting import collect, collect_pretraining
from results_ledger import LEDGERS, write_result
from results_page import GROUPS, STUDIES, draw
from stages import PROJECT

from step_analysis.atomic_file import write_atomically


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb")
    collecting = verbs.add_parser("collect", help="keep what runs came to, then draw the page")
    collecting.add_argument("group", choices=(*GROUPS, *STUDIES))
    collecting.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    if options.verb == "collect":
        for run in options.runs:
            of_run = run.resolve()
            are_studies = options.group in STUDIES
            results = collect_pretraining(of_run) if are_studies else [collect(of_run)]
            for result in results:
                print(write_result(LEDGERS / options.group, result))
    for path, content in draw(LEDGERS).items():
        target = PROJECT / "docs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
        print(target.relative_to(PROJECT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
