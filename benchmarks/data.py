"""How fast robot data is loaded, and its statistics are taken, against others' ways.

    python benchmarks/data.py --folder runs/data_benchmark
    python benchmarks/data.py --foundry CHECKOUT --foundry-python ENVIRONMENT/bin/python

Prints one line of JSON. The episodes are drawn (benchmarks/rendered_scenes.py): smooth shading,
texture and moving shapes, since noise would compress like nothing that a camera sees. They are
written once to the folder, in the training format and as VLA Foundry's shards, JPEG of quality 95,
and used again by the next run.

Rates are given by the wall's clock and by CPU seconds of all processes; where a machine is shared,
the ratio of the latter is the one to look at.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    # Not above: the loader's processes import this file and have no use for it.
    sys.path.insert(0, str(Path(__file__).parent))
    import tyro
    from data_measurements import DataArguments, measure

    print(json.dumps(measure(tyro.cli(DataArguments, description=__doc__))))


if __name__ == "__main__":
    main()
