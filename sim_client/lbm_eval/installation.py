"""Is LBM Eval there, which version of it, and does it have the skills?"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim_client.evaluation.errors import UsageError
from sim_client.lbm_eval.child_process import START_ALLOWANCE_S, Child, ChildEndedError
from sim_client.lbm_eval.verdict import exception_text

_WHEELS = ("robot_gym", "lbm_eval", "lbm_eval_models", "lbm_eval_scenarios")

# For Drake to download its models, which LBM Eval's first look for its scenarios makes it do.
_DOWNLOAD_ALLOWANCE_S = 1800.0
_SAY_WHY_AFTER_S = 15.0


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
                answer = _ask(child)
        except ChildEndedError as error:
            raise UsageError(f"on importing LBM Eval, {python} {error}") from error
    if answer is None:
        raise UsageError(f"{python} did not list LBM Eval's skills in time, and was stopped")
    if answer["kind"] == "missing":
        is_absent = answer["module"].partition(".")[0] in _WHEELS
        what = "is not installed" if is_absent else "is not whole"
        raise UsageError(
            f"LBM Eval {what} in {python}: it has no module {answer['module']!r}. {_cure(python)}"
        )
    if answer["kind"] != "probed":
        raise UsageError(f"LBM Eval does not work in {python}: {exception_text(answer['message'])}")
    if not answer["skills"]:
        raise UsageError(f"the LBM Eval in {python} has no skills. {_cure(python)}")
    return Installation(versions=answer["versions"], skills=frozenset(answer["skills"]))


def _ask(child: Child) -> dict[str, Any] | None:
    answer = child.next_message(timeout_s=START_ALLOWANCE_S)
    if answer is None or answer["kind"] != "phase":
        return answer
    answer = child.next_message(timeout_s=_SAY_WHY_AFTER_S)
    if answer is None:
        print(
            "LBM Eval looks for its scenarios; the first time, Drake downloads its models for that",
            file=sys.stderr,
            flush=True,
        )
        answer = child.next_message(timeout_s=_DOWNLOAD_ALLOWANCE_S)
    return answer


def _cure(python: Path) -> str:
    wheels = " ".join(f"{name}-1.1.0-py3-none-any.whl" for name in _WHEELS)
    return (
        "Download its four wheels from the releases of ToyotaResearchInstitute/lbm_eval on GitHub "
        f"and run `{python} -m pip install {wheels}`, or name the Python of the environment that "
        "has them with --lbm-eval-python"
    )
