"""Is LBM Eval there, which version of it, and does it have the skills?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sim_client.evaluation.errors import UsageError
from sim_client.lbm_eval.child_process import START_ALLOWANCE_S, Child, ChildEndedError

_WHEELS = ("robot_gym", "lbm_eval", "lbm_eval_models", "lbm_eval_scenarios")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """LBM Eval as an interpreter sees it.

    versions: of its wheels and of Drake, by distribution. skills: in snake_case.
    """

    versions: Mapping[str, str]
    skills: frozenset[str]


def look_for_lbm_eval(python: Path) -> Installation:
    """Raises UsageError where it is absent or broken, with what to do about it."""
    with tempfile.TemporaryDirectory(prefix="lbm-eval-") as folder:
        try:
            with Child(python, "probe", log=Path(folder) / "probe.log") as child:
                answer = child.next_message(timeout_s=START_ALLOWANCE_S)
        except ChildEndedError as error:
            raise UsageError(f"{python} {error} on importing LBM Eval") from error
    if answer is None:
        raise UsageError(f"{python} did not import LBM Eval within {START_ALLOWANCE_S:g} s")
    if answer["kind"] == "missing":
        raise UsageError(
            f"LBM Eval is not installed in {python}: it has no module {answer['module']!r}. "
            f"{_cure(python)}"
        )
    if answer["kind"] != "probed":
        raise UsageError(f"LBM Eval does not import in {python}: {_last_line(answer['message'])}")
    if not answer["skills"]:
        raise UsageError(f"the LBM Eval in {python} has no skills. {_cure(python)}")
    return Installation(versions=answer["versions"], skills=frozenset(answer["skills"]))


def _cure(python: Path) -> str:
    wheels = " ".join(f"{name}-1.1.0-py3-none-any.whl" for name in _WHEELS)
    return (
        "Download its four wheels from the releases of ToyotaResearchInstitute/lbm_eval on GitHub "
        f"and run `{python} -m pip install {wheels}`, or name the Python of the environment that "
        "has them with --lbm-eval-python"
    )


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
