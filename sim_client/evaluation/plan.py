"""What an evaluation comes to on one simulator: its design, and who runs its episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.handshake import ServedPolicy
from sim_client.evaluation.simulator_facts import version_of
from sim_client.evaluation.worker import ServedPolicySettings
from step_analysis.rollouts import EvaluationDesign
from step_analysis.strict_json import FormatError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An evaluation that is ready to begin.

    serve: a worker process's whole life, given its pipe and `settings`.
    max_control_steps: of an episode, by task.
    """

    design: EvaluationDesign
    serve: Callable[[Connection, Any], None]
    settings: ServedPolicySettings
    max_control_steps: Mapping[str, int]


def make_design(
    config: EvaluationConfig,
    policy: ServedPolicy,
    *,
    tasks: Sequence[str],
    station: Mapping[str, Any],
    software: Mapping[str, str],
) -> EvaluationDesign:
    """Raises UsageError for a policy's name that no record can hold."""
    num_episodes = len(config.episodes)
    try:
        return EvaluationDesign(
            policy=policy.name,
            policy_digest=policy.digest,
            tasks=tuple(tasks),
            first_episode=config.episodes.start,
            num_episodes=num_episodes,
            max_sample_size=config.max_sample_size or num_episodes,
            station=station,
            software={"assay": version_of("assay")} | dict(software) | dict(policy.serving),
        )
    except FormatError as error:
        raise UsageError(f"{error}; give the policy another name with --policy-name") from error


def protocol_json(design: EvaluationDesign) -> str:
    """What an episode's outcome depends on besides its policy and its seed."""
    return json.dumps({"station": design.station, "software": design.software}, sort_keys=True)
