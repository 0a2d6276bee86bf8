"""Evaluate a served policy: meet it, agree on a contract, run the episodes, leave the results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from policy_interface.client import (
    PolicyServerRefusedError,
    PolicyServerUnreachableError,
)
from policy_interface.client_options import ClientOptionError
from policy_interface.contract import ContractError, ImageSize
from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.episode import EpisodeRequest
from sim_client.evaluation.errors import EvaluationStoppedError, UsageError
from sim_client.evaluation.executor import cluster_for, executor_for, require_executor
from sim_client.evaluation.handshake import (
    ServedPolicy,
    agreed_contract,
    await_metadata,
    served_policy,
)
from sim_client.evaluation.interruption import (
    Interruption,
    end_with_input,
    sigterm_like_ctrl_c,
)
from sim_client.evaluation.live_page import announced
from sim_client.evaluation.output_folder import OutputFolder, check_writable
from sim_client.evaluation.plan import Plan, make_design, protocol_json
from sim_client.evaluation.progress import Progress, summary
from sim_client.evaluation.provenance_file import (
    ProvenanceFile,
    held_to_like,
    provenance_of,
)
from sim_client.evaluation.scheduler import run_episodes
from sim_client.evaluation.simulator_facts import version_of
from sim_client.evaluation.station import OUR_STATION
from sim_client.evaluation.worker import WorkerSettings, serve_episodes
from step_analysis.ledger import LedgerError

if TYPE_CHECKING:
    from sim_client.cluster.cluster import RayCluster

# A policy's own cameras are filmed at the size that it sees; others for people.
_FILM_SIZE = ImageSize(height=240, width=320)

DONE, WORK_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def run(
    config: EvaluationConfig, *, station_factory: str = OUR_STATION, more_to_come: bool = False
) -> int:
    """Evaluate, tell the user how it went, and return the process's exit code.

    0: every episode has a verdict. 1: some have none. 2: asked for something impossible.
    130: interrupted; the same command goes on from there. An interruption that finds nothing left
    to cut off counts only where there is more to come, other evaluations after this one.
    """
    try:
        with sigterm_like_ctrl_c():
            if config.while_input_open:
                end_with_input()
            if _evaluate(config, station_factory) and more_to_come:
                raise KeyboardInterrupt
            return DONE
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except UsageError as error:
        _complain(str(error))
        return BAD_USAGE
    except (EvaluationStoppedError, LedgerError) as error:
        _complain(str(error))
        return WORK_FAILED
    except OSError as error:
        _complain(f"can't write the results: {error}")
        return WORK_FAILED


def _evaluate(config: EvaluationConfig, station_factory: str) -> bool:
    """Whether it was interrupted, with nothing left to cut off."""
    plan_for = prepare(config, station_factory)
    check_writable(config.output)
    require_executor(config)
    with cluster_for(config) as (cluster, pointed):
        return _evaluate_at(pointed, plan_for, cluster)


def _evaluate_at(
    config: EvaluationConfig,
    plan_for: Callable[[ServedPolicy], Plan],
    cluster: RayCluster | None,
) -> bool:
    policy = meet(config)
    plan = plan_for(policy)
    provenance = provenance_of(plan.design, policy)
    plan = held_to_like(config, plan, provenance)
    folder = OutputFolder(
        config.output,
        plan.design,
        budget_is_given=config.max_sample_size is not None,
        num_workers=config.workers,
        shared=True,
    )
    with folder:
        unfinished = folder.unfinished()
        num_episodes = len(folder.design.tasks) * folder.design.num_episodes
        _say(f"policy {policy.name!r}, {num_episodes} episodes, results in {folder.path}")
        if len(unfinished) < num_episodes:
            _say(f"resuming: {num_episodes - len(unfinished)} of {num_episodes} are done already")
        requests = [
            folder.request(
                key,
                max_control_steps=plan.max_control_steps[key.task],
                record=config.recordings().keeps_pictures,
            )
            for key in unfinished
        ]
        if config.meshcat_port is not None:
            _say(f"live: http://localhost:{config.meshcat_port}, or sim-client watch --browser")
        origin = ProvenanceFile(folder.path, provenance, executor=config.executor)
        origin.begin()
        try:
            was_interrupted = _run(requests, folder, origin, plan, config, cluster)
        finally:
            for line in summary(folder.design, folder.records):
                _say(line)
            num_unfinished = len(folder.unfinished())
            if num_unfinished:
                _say(
                    f"{num_unfinished} of {num_episodes} episodes are still to do; "
                    "the same command goes on from here"
                )
    if num_unfinished:
        raise EvaluationStoppedError(
            f"{num_unfinished} of {num_episodes} episodes ended in errors, see above"
        )
    _say(f"report: step-analysis report {config.output}")
    return was_interrupted


def _run(
    requests: Sequence[EpisodeRequest],
    folder: OutputFolder,
    provenance: ProvenanceFile,
    plan: Plan,
    config: EvaluationConfig,
    cluster: RayCluster | None,
) -> bool:
    with (
        announced(folder.path, first_port=config.meshcat_port, num_workers=config.workers),
        Interruption() as interruption,
        executor_for(config, plan, folder.path, cluster) as executor,
        Progress(folder.design, folder.records) as progress,
    ):
        run_episodes(
            requests,
            executor=executor,
            folder=folder,
            provenance=provenance,
            progress=progress,
            interruption=interruption,
            max_attempts=config.max_attempts,
        )
    return interruption.requested


def prepare(config: EvaluationConfig, station_factory: str) -> Callable[[ServedPolicy], Plan]:
    """Check what is asked for; what is returned plans it for a policy, on the simulator asked for.

    Raises UsageError for what can't be done here.
    """
    if config.simulator == "lbm-eval":
        # Here, not above: it plans by what stands above.
        from sim_client.lbm_eval.planning import prepare_lbm_eval

        return prepare_lbm_eval(config)
    return _prepare_drake(config, station_factory)


def _prepare_drake(
    config: EvaluationConfig, station_factory: str
) -> Callable[[ServedPolicy], Plan]:
    time_limits_s = _time_limits(config)
    shift = _checked_conditions(config)
    known_cameras = _known_cameras()
    for name in config.video:
        if name not in known_cameras:
            raise UsageError(
                f"--video: the station has no camera {name!r}: expected some of "
                f"{', '.join(known_cameras)}"
            )

    def plan_for(policy: ServedPolicy) -> Plan:
        contract = agreed_contract(policy, known_cameras=known_cameras)
        if policy.contract is None:
            cameras = ", ".join(f"{name} {size}" for name, size in contract.cameras.items())
            _say(f"{config.address} states no contract; it gets the station's default: {cameras}")
        contract_json = contract.to_json()
        design = make_design(
            config,
            policy,
            tasks=tuple(time_limits_s),
            station={
                "simulator": "drake",
                "contract": json.loads(contract_json),
                "time_limits_s": time_limits_s,
                "shift": shift,
                "latency_ms": config.latency_ms,
            },
            software={"drake": version_of("drake")},
        )
        return Plan(
            design=design,
            serve=serve_episodes,
            settings=WorkerSettings(
                server=config.connection(),
                policy_digest=policy.digest,
                serving_options=dict(policy.serving),
                contract_json=contract_json,
                station_factory=station_factory,
                wait_for_server_s=config.wait_for_server_s,
                protocol_json=protocol_json(design),
                shift=shift,
                latency_ms=config.latency_ms,
                film_cameras=dict.fromkeys(config.video, _FILM_SIZE),
                recordings=config.recordings(),
            ),
            max_control_steps={
                task: max(1, round(limit_s * contract.control_rate_hz))
                for task, limit_s in time_limits_s.items()
            },
        )

    return plan_for


def _checked_conditions(config: EvaluationConfig) -> str:
    """The shift in the words that a design keeps, however it was spelt; the latency as it is."""
    from sim_client.station.commands import latency_time_steps
    from sim_client.station.shift import Shift

    try:
        latency_time_steps(config.latency_ms / 1e3)
    except ContractError as error:
        raise UsageError(f"--latency-ms: {error}") from error
    try:
        return str(Shift.parse(config.shift))
    except ContractError as error:
        raise UsageError(f"--shift: {error}") from error


def _time_limits(config: EvaluationConfig) -> dict[str, float]:
    """Seconds by the full name of each task, in the order asked for."""
    from sim_client.tasks.catalog import UnknownTaskError, get_tasks

    try:
        tasks = get_tasks(config.tasks)
    except UnknownTaskError as error:
        raise UsageError(f"--tasks: {error}") from error
    limits_s = {
        task.name: task.time_limit_s if config.time_limit_s is None else config.time_limit_s
        for task in tasks
    }
    if len(limits_s) < len(tasks):
        raise UsageError(f"--tasks: a task is named twice in {','.join(config.tasks)}")
    return limits_s


def _known_cameras() -> Mapping[str, ImageSize]:
    from sim_client.station.cameras import DEFAULT_CAMERAS

    return DEFAULT_CAMERAS


def meet(config: EvaluationConfig) -> ServedPolicy:
    """The policy at the address. Raises EvaluationStoppedError where there is none."""
    try:
        client = config.connection().open()
    except ClientOptionError as error:
        raise UsageError(str(error)) from error
    with client:
        try:
            metadata = await_metadata(client, timeout_s=config.wait_for_server_s)
        except PolicyServerUnreachableError as error:
            raise EvaluationStoppedError(
                f"no policy server serves at {config.address} within "
                f"{config.wait_for_server_s:g} s; start one with `policy-server serve`, or name "
                f"another --address ({error})"
            ) from error
        except PolicyServerRefusedError as error:
            raise EvaluationStoppedError(str(error)) from error
    return served_policy(metadata, name=config.policy_name)


def _say(line: str) -> None:
    print(line, flush=True)


def _complain(line: str) -> None:
    print(f"sim-client: {line}", file=sys.stderr, flush=True)
