"""An evaluation whose every process is killed, again and again, ends as the undisturbed one does.

Drake's physics on its own, and a policy whose actions come from each episode's seed, so that a
single step that was lost, repeated or taken from another episode would show in the states.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
import pytest

from sim_client.evaluation.action_log import load_action_log
from step_analysis.ledger import latest_outcomes, read_design, read_ledger
from step_analysis.results_json import read_results_tree
from step_analysis.rollouts import Outcome, RolloutKey
from tests.loopback_port import quiet_port

PROGRAMS = Path(sys.executable).parent
READY_LINE = re.compile(r"\bat (\S+:\d+)")
TASKS = ("PickAndPlaceBox", "PutMugOnSaucer")
NUM_EPISODES = 20
VICTIMS = ("worker", "server", "runner")
MAX_KILLS_OF_EACH = 3
PATIENCE_S = 240.0


class Server:
    """`policy-server serve`, on the same port each time."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{quiet_port()}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        program, policy = PROGRAMS / "policy-server", "policy_server.testing:NoisePolicy"
        self._process = subprocess.Popen(
            [program, "serve", policy, "--address", self.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        ready = (READY_LINE.search(line) for line in self._process.stdout)
        assert next(match[1] for match in ready if match) == self.address

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


class Evaluation:
    """`sim-client evaluate`, and what it says while it runs."""

    def __init__(self, server: Server, output: Path) -> None:
        self._process = subprocess.Popen(
            [
                *(PROGRAMS / "sim-client", "evaluate", "--tasks", ",".join(TASKS)),
                *("--episodes", f"0:{NUM_EPISODES}", "--time-limit-s", "3", "--workers", "2"),
                *("--address", server.address, "--output", output),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self._lines: IO[str] = self._process.stderr

    def next_line(self) -> str:
        """Wait until it says something; empty once it has ended."""
        return self._lines.readline()

    def workers(self) -> list[psutil.Process]:
        # Python's resource tracker is a child too.
        return [
            child
            for child in psutil.Process(self._process.pid).children()
            if any("spawn_main" in word for word in child.cmdline())
        ]

    def ends_within(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """And wait until its workers have followed it: they do so by themselves."""
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.communicate()
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
        assert not alive

    def exit_code(self) -> int:
        _, said = self._process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in said
        return self._process.returncode


def outcomes(output: Path) -> dict[RolloutKey, tuple[object, ...]]:
    """Of each episode, all that does not say when and how fast it ran."""
    return {
        key: (
            record.outcome,
            record.seed,
            record.instruction,
            record.num_control_steps,
            record.duration_s,
            record.progress,
            record.first_inference_s,
            record.state_digest,
            record.message,
            tuple(sorted(record.detail.items())),
        )
        for key, record in latest_outcomes(read_ledger(output / "noise" / "ledger.jsonl")).items()
    }


def executed(output: Path) -> dict[tuple[str, int], tuple[bytes, bytes]]:
    logs = [load_action_log(path) for path in output.glob("noise/**/actions.npz")]
    return {
        (log.task, log.scenario_index): (log.actions.tobytes(), log.state_digests.tobytes())
        for log in logs
    }


@pytest.fixture
def server() -> object:
    server = Server()
    server.start()
    yield server
    server.kill()


def disturbed(server: Server, output: Path, rng: random.Random) -> list[str]:
    """Evaluate to the end, killing on the way; what was killed, in order.

    As many rounds as the evaluation lasts, each of the three in an order of its own.
    """
    victims = [
        victim for _ in range(MAX_KILLS_OF_EACH) for victim in rng.sample(VICTIMS, k=len(VICTIMS))
    ]
    killed: list[str] = []
    evaluation = Evaluation(server, output)
    while len(killed) < len(victims):
        # Something was decided or went wrong since the last time; then at any moment.
        if not evaluation.next_line() or evaluation.ends_within(rng.uniform(0.0, 0.5)):
            break
        victim = victims[len(killed)]
        if victim == "runner":
            evaluation.kill()
            evaluation = Evaluation(server, output)
        elif victim == "server":
            server.kill()
            server.start()
        else:
            workers = evaluation.workers()
            if not workers:
                continue
            rng.choice(workers).send_signal(signal.SIGKILL)
        killed.append(victim)
    while (code := evaluation.exit_code()) != 0:
        # Every attempt that this run allows an episode was killed.
        assert code == 1
        evaluation = Evaluation(server, output)
    return killed


@pytest.mark.slow
def test_whatever_is_killed_every_episode_ends_as_if_nothing_had_been(
    server: Server, tmp_path: Path
) -> None:
    assert Evaluation(server, tmp_path / "undisturbed").exit_code() == 0
    killed = disturbed(server, tmp_path / "disturbed", random.Random(20261))
    assert set(killed) == set(VICTIMS)

    expected, got = outcomes(tmp_path / "undisturbed"), outcomes(tmp_path / "disturbed")
    assert len(expected) == len(TASKS) * NUM_EPISODES
    assert got == expected
    assert executed(tmp_path / "disturbed") == executed(tmp_path / "undisturbed")
    left = {path.name for path in tmp_path.glob("disturbed/noise/**/demonstration_*/*")}
    assert left == {"actions.npz"}
    # They are not all one episode.
    assert len({outcome[7] for outcome in expected.values()}) == len(expected)

    records = read_ledger(tmp_path / "disturbed" / "noise" / "ledger.jsonl")
    counted = [record.key for record in records if record.outcome.counts]
    assert len(counted) == len(set(counted)) == len(expected)
    # The kills were felt: those of workers and servers leave errors.
    errors = [record.message or "" for record in records if record.outcome is Outcome.ERROR]
    assert any("SIGKILL" in message for message in errors)
    # A step that was under way has no answer; the next one meets a server that knows no episode.
    assert any("no answer to" in message or "has no episode" in message for message in errors)
    assert read_design(tmp_path / "disturbed" / "noise" / "evaluation.json").tasks == TASKS
    results = read_results_tree(tmp_path / "disturbed")
    assert [len(file.records) for file in results] == [NUM_EPISODES] * len(TASKS)
    assert not any(file.pending for file in results)
