"""Compare policies: serve and meet them, lock the design, run until decided, say the verdict."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sim_client.compare.config import CompareConfig
from sim_client.compare.contenders import Contender, served_contenders
from sim_client.compare.progress import Progress
from sim_client.compare.scheduler import run_study
from sim_client.compare.worker import ComparisonSettings, serve_comparison
from sim_client.evaluation.config import evaluation_seed
from sim_client.evaluation.episode import EpisodeRequest
from sim_client.evaluation.errors import EvaluationStoppedError, UsageError
from sim_client.evaluation.handshake import ServedPolicy
from sim_client.evaluation.interruption import Interruption, sigterm_like_ctrl_c
from sim_client.evaluation.output_folder import OutputFolder, check_writable
from sim_client.evaluation.plan import Plan
from sim_client.evaluation.provenance_file import ProvenanceFile, held_to_like, provenance_of
from sim_client.evaluation.runner import (
    BAD_USAGE,
    DONE,
    INTERRUPTED,
    WORK_FAILED,
    meet,
    prepare,
)
from sim_client.evaluation.station import OUR_STATION
from sim_client.evaluation.worker_pool import WorkerPool
from step_analysis.doctor.tally import plural
from step_analysis.ledger import LedgerError
from step_analysis.provenance import Provenance
from step_analysis.rollouts import RolloutKey
from step_analysis.strict_json import FormatError
from step_analysis.study.design import StudyDesign, StudyPolicy
from step_analysis.study.folder import StudyFolder, read_study
from step_analysis.study.study import Study
from step_analysis.study.wording import headline, pair_sentence, progress_line, verdict_lines

WORSE = 3


@dataclass(frozen=True, kw_only=True)
class _Met:
    """A policy that answers, and what its part of the study comes to."""

    policy: ServedPolicy
    plan: Plan
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class Played:
    """A study as far as it came.

    names: of the policies, as the config has them. was_interrupted: too late to cut anything off.
    """

    study: Study
    names: tuple[str, ...]
    was_interrupted: bool


def run(config: CompareConfig, *, station_factory: str = OUR_STATION) -> int:
    """Compare, tell the user the verdict, and return the process's exit code.

    0: the study is finished. 1: it could not go on. 2: asked for something impossible. 3: with
    `fail_if_worse`, the policy named last is shown to be worse than another. 130: interrupted.
    After 1 and 130 the same command goes on from there.
    """
    return ended(lambda: _compare(config, station_factory))


def ended(work: Callable[[], int]) -> int:
    """Do the work, say why it ended if it did not end well, and return the exit code; see `run`."""
    try:
        with sigterm_like_ctrl_c():
            return work()
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from here")
        return INTERRUPTED
    except (UsageError, LedgerError) as error:
        # What lies in the folder is for the user to change, as a wrong option is.
        _complain(str(error))
        return BAD_USAGE
    except EvaluationStoppedError as error:
        _complain(str(error))
        return WORK_FAILED
    except OSError as error:
        _complain(f"can't write the results: {error}")
        return WORK_FAILED


def _compare(config: CompareConfig, station_factory: str) -> int:
    check_possible(config, station_factory)
    with StudyFolder(config.output) as folder:
        played = run_in(folder, config, station_factory)
    if config.fail_if_worse:
        for each in played.study.standing().comparisons:
            if each.loser == played.names[-1]:
                _complain(f"--fail-if-worse: {pair_sentence(played.study, each)}")
                return WORSE
    return DONE


def check_possible(config: CompareConfig, station_factory: str) -> None:
    """Before any server is started. Raises UsageError: tasks, cameras, the shift or the folder."""
    prepare(config.evaluation("127.0.0.1:1", None, None), station_factory)
    check_writable(config.output)


def run_in(folder: StudyFolder, config: CompareConfig, station_factory: str) -> Played:
    """Run a study, or go on with it, in a folder that is ours, until it is decided.

    A study that may grow keeps the policies that it has and this config does not name: they get no
    more rollouts, and their verdicts stand.

    Raises:
        UsageError, LedgerError: something impossible is asked for, or lies in the folder.
        EvaluationStoppedError: it can't go on.
        KeyboardInterrupt: interrupted before it was decided, between two records.
        OSError: results can't be written.
    """
    with served_contenders(config) as contenders, contextlib.ExitStack() as stack:
        met = [_meet(config, contender, station_factory) for contender in contenders]
        design = _design(config, met, folder.design())
        folder.agree(design)
        folders = {
            each.policy.name: stack.enter_context(
                OutputFolder(
                    config.output,
                    each.plan.design,
                    budget_is_given=True,
                    num_workers=config.workers,
                )
            )
            for each in met
        }
        study = read_study(config.output)
        was_interrupted = _run(config, study, met, folders)
    names = tuple(each.policy.name for each in met)
    return Played(study=study, names=names, was_interrupted=was_interrupted)


def _run(
    config: CompareConfig,
    study: Study,
    met: Sequence[_Met],
    folders: Mapping[str, OutputFolder],
) -> bool:
    """Whether it was interrupted, with nothing left to cut off."""
    design = study.design
    done = sum(record.outcome.counts for own in folders.values() for record in own.records)
    _say(
        f"study in {config.output}: {', '.join(folders)}; "
        f"{plural(design.num_comparisons, 'comparison')}, "
        f"up to {design.num_rollouts} rollouts, alpha {design.alpha:g}"
    )
    if done:
        _say(f"resuming: {done} rollouts are done already")
    plans = {each.policy.name: each.plan for each in met}
    origins = {
        each.policy.name: ProvenanceFile(
            folders[each.policy.name].path, each.provenance, executor="local"
        )
        for each in met
    }
    for origin in origins.values():
        origin.begin()

    def request_of(key: RolloutKey) -> EpisodeRequest:
        request = folders[key.policy].request(
            key,
            max_control_steps=plans[key.policy].max_control_steps[key.task],
            record=bool(config.video),
        )
        return replace(request, policy=key.policy)

    settings = ComparisonSettings(policies={each.policy.name: each.plan.settings for each in met})
    with (
        Interruption() as interruption,
        WorkerPool(
            serve_comparison,
            settings,
            num_workers=config.workers,
            stall_timeout_s=config.stall_timeout_s,
        ) as executor,
        Progress(study, done) as progress,
    ):
        given_up = run_study(
            study,
            executor=executor,
            folders=folders,
            origins=origins,
            request_of=request_of,
            progress=progress,
            interruption=interruption,
            max_attempts=config.max_attempts,
        )
    if given_up and not study.standing().is_finished:
        raise EvaluationStoppedError(
            f"{len(given_up)} rollouts ended in errors, see above, and comparisons wait for them; "
            f"the same command tries them again ({progress_line(study)})"
        )
    run_by_us = sum(record.outcome.counts for own in folders.values() for record in own.records)
    for line in verdict_lines(study):
        _say(line)
    _say(f"report: step-analysis report {config.output}")
    _say(f"verdict: {headline(study)} {run_by_us} were run.")
    return interruption.requested


def _meet(config: CompareConfig, contender: Contender, station_factory: str) -> _Met:
    evaluation = config.evaluation(contender.address, contender.policy, contender.name)
    policy = meet(evaluation)
    plan = prepare(evaluation, station_factory)(policy)
    provenance = provenance_of(plan.design, policy)
    return _Met(
        policy=policy,
        plan=held_to_like(evaluation, plan, provenance),
        provenance=provenance,
    )


def _design(config: CompareConfig, met: Sequence[_Met], known: StudyDesign | None) -> StudyDesign:
    names = [each.policy.name for each in met]
    if len(set(names)) < len(names):
        raise UsageError(
            f"the policies are called {', '.join(map(repr, names))}: give each a name of its own "
            "with --names"
        )
    plan = met[0].plan.design
    station = {name: value for name, value in plan.station.items() if name != "contract"}
    serving = {name for each in met for name in each.policy.serving}
    policies = {
        each.policy.name: StudyPolicy(
            name=each.policy.name,
            digest=each.policy.digest,
            serving=dict(each.policy.serving),
        )
        for each in met
    }
    if known is not None and config.correction == "arrival":
        # In their order, first; that of the others is the order in which they are named.
        policies = {policy.name: policy for policy in known.policies} | policies
    try:
        return StudyDesign(
            policies=tuple(policies.values()),
            tasks=plan.tasks,
            max_episodes=config.max_episodes,
            first_seed=evaluation_seed(0),
            alpha=float(config.alpha),
            test=config.test,
            measure=config.measure,
            correction=config.correction,
            question=config.question,
            scope=config.verdicts,
            station=station,
            software={k: v for k, v in plan.software.items() if k not in serving},
        )
    except FormatError as error:
        raise UsageError(str(error)) from error


def _say(line: str) -> None:
    print(line, flush=True)


def _complain(line: str) -> None:
    print(f"sim-client: {line}", file=sys.stderr, flush=True)
