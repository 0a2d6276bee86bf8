"""Run a league: look for checkpoints, compare, write the standing, look again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sim_client.compare.runner import check_possible, ended, run_in
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.handshake import is_of_checkpoint
from sim_client.evaluation.runner import DONE
from sim_client.evaluation.station import OUR_STATION
from sim_client.league.arrivals import Arrivals, Checkpoint
from sim_client.league.config import LeagueConfig
from step_analysis.atomic_file import write_atomically
from step_analysis.ledger import LedgerError
from step_analysis.loading import read_rollouts
from step_analysis.report.study_report import study_report
from step_analysis.report.writing import write_report
from step_analysis.strict_json import shown
from step_analysis.study.design import StudyDesign
from step_analysis.study.folder import StudyFolder, is_study, read_study
from step_analysis.study.ranking import ranking_json, ranking_table

REPORT_FOLDER = "report"
_CONFIDENCE = 0.95


def run(
    config: LeagueConfig,
    *,
    station_factory: str = OUR_STATION,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Play, tell the user the standing after each round, and return the process's exit code.

    0: with --once, the checkpoints there are ranked. 1: a round could not go on. 2: asked for
    something impossible. 130: interrupted. The same command goes on from there.

    Args:
        pause: waits for so many seconds until the folder is looked at again.
    """
    return ended(lambda: _play(config, station_factory, pause))


def _play(config: LeagueConfig, station_factory: str, pause: Callable[[float], None]) -> int:
    if not config.folder.is_dir():
        raise UsageError(f"{config.folder}: no such folder")
    arrivals = Arrivals(config.folder, besides=config.output)
    said: set[str] = set()

    def say_once(line: str) -> None:
        if line not in said:
            said.add(line)
            print(line, flush=True)

    check_possible(config.any_comparison, station_factory)
    with StudyFolder(config.any_comparison.output) as folder:
        while True:
            checkpoints, passed_over = arrivals.look()
            for each in passed_over:
                say_once(f"passed over: {each.path}: {each.reason}")
            players = _players(checkpoints, folder.design(), say_once)
            if len(players) >= 2 and _has_work(folder, players):
                try:
                    played = run_in(folder, config.comparison(players), station_factory)
                finally:
                    if is_study(folder.path):
                        _write_standing(config.output, folder.path)
                print(ranking_table(read_study(folder.path)), flush=True)
                print(f"standing: {config.output / 'standing.json'}", flush=True)
                if played.was_interrupted:
                    raise KeyboardInterrupt
                # What has come meanwhile is taken at once.
                continue
            if config.once:
                if not is_study(folder.path):
                    raise UsageError(
                        f"{config.folder}: a league needs two checkpoints, found {len(players)}"
                    )
                _write_standing(config.output, folder.path)
                print(ranking_table(read_study(folder.path)), flush=True)
                return DONE
            say_once(f"watching {config.folder} every {config.interval_s:g} s; Ctrl-C ends it")
            pause(config.interval_s)


def _players(
    checkpoints: Sequence[Checkpoint],
    design: StudyDesign | None,
    say_once: Callable[[str], None],
) -> list[Checkpoint]:
    """Without those whose policy is there already under another name; the first keeps its place.

    Raises:
        LedgerError: what has a place in the league is another policy now.
    """
    names = {} if design is None else {p.digest: p.name for p in design.policies}
    # What a server that states no digest served under a name is not told by the checkpoint's.
    digests = {name: digest for digest, name in names.items() if is_of_checkpoint(digest)}
    players = []
    for each in checkpoints:
        known = digests.get(each.name, each.digest)
        if each.digest != known:
            raise LedgerError(
                f"{each.path} has changed under its name: policy {shown(each.name)}: digest "
                f"{shown(known)} in the league, {shown(each.digest)} here; put the one that was "
                "ranked back, and give the new one another name"
            )
        first = names.setdefault(each.digest, each.name)
        if first == each.name:
            players.append(each)
        else:
            say_once(f"passed over: {each.path}: the same policy as {first}")
    return players


def _has_work(folder: StudyFolder, players: Sequence[Checkpoint]) -> bool:
    """Whether somebody is new, or two that are here are not decided."""
    if not is_study(folder.path):
        return True
    study = read_study(folder.path)
    here = {each.name for each in players}
    if not here <= {policy.name for policy in study.design.policies}:
        return True
    return any(here.issuperset(each.arms) for each in study.standing().open)


def _write_standing(output: Path, path: Path) -> None:
    study = read_study(path)
    write_atomically(output / "standing.txt", ranking_table(study) + "\n")
    write_atomically(output / "standing.json", ranking_json(study))
    rollouts = read_rollouts([path])
    if rollouts.is_empty:
        return
    content, comparison = study_report(
        path,
        rollouts,
        title="League",
        confidence=_CONFIDENCE,
        arguments=["report", str(path)],
    )
    write_report(output / REPORT_FOLDER, content, comparison)
