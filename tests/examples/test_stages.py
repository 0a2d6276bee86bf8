"""The pipelines of examples/: how a stage ends with them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

# A verb that would go on for as long as nobody tells it to end.
PIPELINE = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from stages import call, run_in_project

WAIT = "import signal; print('ready', flush=True); signal.pause()"
sys.exit(run_in_project(lambda: call("python", "-c", WAIT), folder=Path(sys.argv[2])))
"""


def test_a_pipeline_that_is_told_to_end_ends_its_verb(tmp_path: Path) -> None:
    pipeline = subprocess.Popen(
        [sys.executable, "-c", PIPELINE, EXAMPLES, tmp_path / "runs"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert pipeline.stdout is not None
    for line in pipeline.stdout:
        if line == "ready\n":
            break
    pipeline.send_signal(signal.SIGTERM)
    # The verb holds these pipes too: had it been left running, this would never end.
    _, errors = pipeline.communicate(timeout=60)
    assert pipeline.returncode == 130
    assert "the same command goes on from here" in errors
