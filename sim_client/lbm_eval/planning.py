"""What `--simulator lbm-eval` asks for: checked, and planned for one policy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from policy_interface.contract import Contract, ImageSize, differences
from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.errors import EvaluationStoppedError, UsageError
from sim_client.evaluation.handshake import ServedPolicy
from sim_client.evaluation.plan import Plan, make_design
from sim_client.lbm_eval.installation import look_for_lbm_eval
from sim_client.lbm_eval.skills import Skill, find_skills
from sim_client.lbm_eval.verdict import CONTROL_PERIOD_S
from sim_client.lbm_eval.worker import OWN_TIME_LIMIT, LbmEvalSettings, serve_lbm_eval

_SCENE, _WRIST = ImageSize(height=480, width=640), ImageSize(height=600, width=960)

# Sizes as observed in LBM Eval's sample of cabot; None where its files state none.
_CAMERAS: Mapping[str, Mapping[str, ImageSize | None]] = {
    "cabot": {
        "scene_right_0": _SCENE,
        "scene_left_0": _SCENE,
        "wrist_left_minus": _WRIST,
        "wrist_left_plus": _WRIST,
        "wrist_right_minus": _WRIST,
        "wrist_right_plus": _WRIST,
    },
    "riverway": {
        "scene_right_0": _SCENE,
        "scene_left_0": _SCENE,
        "wrist_left_plus": None,
        "wrist_right_minus": None,
    },
}

# What LBM Eval's client can't do: it opens plaintext connections and knows no names of policies.
_REFUSED: Mapping[str, str] = {
    "tls_ca": "--tls-ca",
    "token_file": "--token-file",
    "served_policy": "--served-policy",
}


def prepare_lbm_eval(config: EvaluationConfig) -> Callable[[ServedPolicy], Plan]:
    """Check the skills and the installation; what is returned plans their evaluation.

    Raises UsageError for what can't be done here.
    """
    skills = find_skills(config.tasks)
    for name, flag in _REFUSED.items():
        if getattr(config, name) is not None:
            raise UsageError(
                f"{flag}: not with --simulator lbm-eval, whose client opens plaintext connections "
                "to a server's first policy and sends no token; serve that policy alone on a "
                "local address"
            )
    python = config.lbm_eval_python or Path(sys.executable)
    installation = look_for_lbm_eval(python)
    absent = [s.name for s in skills if s.snake_case_name not in installation.skills]
    if absent:
        raise UsageError(
            f"--tasks: the LBM Eval in {python} has no scenario for {', '.join(absent)}; install "
            f"the lbm_eval_scenarios that belongs to it, or leave these out"
        )

    def plan_for(policy: ServedPolicy) -> Plan:
        _check_fit(policy, skills)
        limit_s = config.time_limit_s
        max_control_steps = (
            OWN_TIME_LIMIT if limit_s is None else max(1, round(limit_s / CONTROL_PERIOD_S))
        )
        return Plan(
            design=make_design(
                config,
                policy,
                tasks=[skill.name for skill in skills],
                station={
                    "simulator": "lbm-eval",
                    # null: LBM Eval's own.
                    "time_limits_s": {skill.name: limit_s for skill in skills},
                },
                software=installation.versions,
            ),
            serve=serve_lbm_eval,
            settings=LbmEvalSettings(
                server=config.connection(),
                policy_digest=policy.digest,
                serving_options=dict(policy.serving),
                wait_for_server_s=config.wait_for_server_s,
                python=python,
                stall_timeout_s=config.stall_timeout_s,
            ),
            max_control_steps={skill.name: max_control_steps for skill in skills},
        )

    return plan_for


def _check_fit(policy: ServedPolicy, skills: Sequence[Skill]) -> None:
    """Raises EvaluationStoppedError with every difference between the policy and a station."""
    if policy.contract is None:
        return
    required = policy.contract.cameras
    for station in dict.fromkeys(skill.station for skill in skills):
        cameras = {
            name: size or required.get(name, _WRIST) for name, size in _CAMERAS[station].items()
        }
        found = differences(
            policy=policy.contract, station=Contract(cameras=cameras, uses_language=True)
        )
        if found:
            raise EvaluationStoppedError(
                f"the policy {policy.name!r} does not fit LBM Eval's station {station}: "
                f"{'; '.join(found)}"
            )
