"""The folder of one evaluated policy, found from what a user names."""

from __future__ import annotations

from pathlib import Path

from policy_interface.usage import UsageError
from step_analysis.ledger import DESIGN_FILE_NAME


def run_folder(path: Path) -> Path:
    """`path`, or the one policy's folder in it.

    Raises UsageError where no evaluation is there, or there are several.
    """
    if (path / DESIGN_FILE_NAME).is_file():
        return path
    below = sorted(design.parent for design in path.glob(f"*/{DESIGN_FILE_NAME}"))
    if len(below) == 1:
        return below[0]
    if below:
        raise UsageError(
            f"{path} holds the evaluations of several policies; name one: "
            f"{', '.join(map(str, below))}"
        )
    raise UsageError(
        f"{path} holds no evaluation: expected the folder of a policy, with {DESIGN_FILE_NAME}, "
        "below the --output of sim-client evaluate"
    )
