"""Harm `docker compose up` in every way that one thinks of, and compare with a run without harm.

    python tests/docker/faults.py [--episodes 4] [--scratch FOLDER]

Needs an engine, the images (`docker compose build`), and root for the small file system. It takes
some minutes, and prints a line for each thing that it has seen to hold.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from step_analysis.ledger import read_ledger

ROOT = Path(__file__).parents[2]
PROJECT = "assay-faults"
PATIENCE_S = 900.0
PATIENCE_OF_THE_ENGINE_S = 60.0
NUM_TRIES = 3


class EndedTooSoonError(RuntimeError):
    """What was to be killed had ended already."""


class Evaluation:
    """`docker compose up` into a results folder, to be waited for or harmed."""

    def __init__(self, results: Path, episodes: int, *options: str, **knobs: str) -> None:
        self.results = results
        self._knobs = {
            "EPISODES": f"0:{episodes}",
            "RESULTS": str(results),
            "WORKERS": "1",
            "COMPOSE_PROJECT_NAME": PROJECT,
        } | knobs
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115
        # A server that is just about to end would be taken for one that runs.
        subprocess.run(
            ["docker", "compose", "-p", PROJECT, "stop"], cwd=ROOT, capture_output=True, check=True
        )
        self._process = subprocess.Popen(
            ["docker", "compose", "up", "--no-build", *options],
            cwd=ROOT,
            env=os.environ | self._knobs,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def until_episodes(self, num: int) -> None:
        """Wait until so many lines are in the ledger."""
        deadline_s = time.monotonic() + PATIENCE_S
        while len(records(self.results)) < num:
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline_s, self.said()
            time.sleep(0.2)

    def kill(self, service: str) -> None:
        """Raises EndedTooSoonError where nothing of it runs any more."""
        containers = subprocess.run(
            ["docker", "ps", "-q", "--filter", f"name={PROJECT}-{service}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        if not containers:
            raise EndedTooSoonError(service)
        killed = subprocess.run(
            ["docker", "kill", containers[0]], capture_output=True, text=True, check=False
        )
        if killed.returncode:
            # It may have ended between the two.
            assert "is not running" in killed.stderr or "No such" in killed.stderr, killed.stderr
            raise EndedTooSoonError(service)

    def code(self) -> int:
        return self._process.wait(timeout=PATIENCE_S)

    def said(self) -> str:
        return Path(self._log.name).read_text("utf-8")

    def line(self, words: str) -> str:
        """What was said with these words in it."""
        lines = [line for line in self.said().splitlines() if words in line]
        assert lines, f"nothing about {words!r} in\n{self.said()}"
        return lines[0]


def down() -> None:
    subprocess.run(
        ["docker", "compose", "-p", PROJECT, "down", "--volumes", "--timeout", "5"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )


def running() -> list[str]:
    """Names of the project's containers that have not ended."""
    return subprocess.run(
        ["docker", "ps", "--format", "{{.Names}}", "--filter", f"name={PROJECT}-"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def assert_all_end() -> None:
    """Everything has ended, or is about to: the engine reaps a container after its program."""
    deadline_s = time.monotonic() + PATIENCE_OF_THE_ENGINE_S
    while left := running():
        assert time.monotonic() < deadline_s, left
        time.sleep(0.1)


def records(results: Path) -> list:
    (ledger,) = list(results.glob("*/ledger.jsonl")) or [None]
    return read_ledger(ledger) if ledger else []


def outcomes(results: Path) -> dict:
    """Of each episode, all that does not say when and how fast it ran; each is there once."""
    counted = [record for record in records(results) if record.outcome.counts]
    assert len({record.key for record in counted}) == len(counted)
    return {
        record.key: (
            record.outcome,
            record.seed,
            record.num_control_steps,
            record.duration_s,
            record.progress,
            record.state_digest,
        )
        for record in counted
    }


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def harmed(scratch: Path, episodes: int, expected: dict) -> None:
    for number in range(NUM_TRIES):
        results = scratch / f"harmed_{number}"
        run = Evaluation(results, episodes, "--scale", "simulator=3")
        try:
            run.until_episodes(1)
            run.kill("simulator")
            say("killed one of three simulators")
            run.until_episodes(2)
            run.kill("policy-server")
            say("killed the policy server")
            break
        except EndedTooSoonError as ended:
            # The engine is asked by another program, which may take longer than the episodes.
            say(f"{ended} ended before it could be killed")
            run.code()
    else:
        raise AssertionError(f"nothing could be harmed in {NUM_TRIES} tries")
    began_s = time.monotonic()
    code = run.code()
    took_s = time.monotonic() - began_s
    # Nobody waits for a server that does not come again; who does says so in the end.
    assert "the policy server has been gone for" not in run.said(), run.said()
    assert_all_end()
    num_done = len(outcomes(results))
    say(f"after {took_s:.0f} s exit status {code} with {num_done} of {episodes} decided")
    # With the last verdict just in, a simulator that is cut off may not have seen it yet.
    assert code != 0 or num_done == episodes, run.said()
    assert code in {0, 1}, run.said()
    again = Evaluation(results, episodes, "--scale", "simulator=2")
    assert again.code() == 0, again.said()
    assert outcomes(results) == expected
    say(f"resumed with two simulators: {episodes} episodes, each once, as without harm")
    before = records(results)
    assert Evaluation(results, episodes).code() == 0
    assert records(results) == before
    say("a further up runs nothing again")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def full_disk(scratch: Path, episodes: int, expected: dict) -> None:
    results = scratch / "small"
    with small_disk(results, "48k"):
        run = Evaluation(results, episodes, "--scale", "simulator=2")
        code = run.code()
        assert code != 0, run.said()
        say(f"a disk of 48 KiB: exit status {code}: {run.line('No space left')}")
        assert len(outcomes(results)) < episodes
        assert_all_end()
        subprocess.run(["mount", "-o", "remount,size=64m", results], check=True)
        again = Evaluation(results, episodes, "--scale", "simulator=2")
        assert again.code() == 0, again.said()
        assert outcomes(results) == expected
        say("with room again: each episode once, as without harm")


def another_policy(folder: Path) -> Path:
    """The checkpoint that ships by another digest, under the same name."""
    shutil.copytree(ROOT / "docker" / "all-tasks-checkpoint", folder)
    origin, manifest_path = folder / "provenance.json", folder / "MANIFEST.json"
    origin.write_bytes(origin.read_bytes() + b"\n")
    manifest = json.loads(manifest_path.read_bytes())
    manifest["files"][origin.name] = {
        "bytes": origin.stat().st_size,
        "sha256": hashlib.sha256(origin.read_bytes()).hexdigest(),
    }
    manifest_path.write_text(json.dumps(manifest))
    return folder


def refused(scratch: Path, episodes: int) -> None:
    done = scratch / "undisturbed"
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    (scratch / "no-checkpoint").mkdir(exist_ok=True)
    another = {"CHECKPOINT": str(another_policy(scratch / "another-policy"))}
    cases: dict[str, tuple[int, dict[str, str], str]] = {
        "another budget": (episodes + 1, {}, "budget"),
        "another protocol": (episodes, {"TASKS": "PutMugOnSaucer"}, "holds another evaluation"),
        "another policy": (episodes, another, "holds another evaluation"),
    }
    for name, (num_episodes, knobs, words) in cases.items():
        run = Evaluation(done, num_episodes, **knobs)
        code = run.code()
        assert code != 0, run.said()
        complaint = run.line(words)
        told = [line for line in run.said().splitlines() if "sim-client: " in line]
        assert told == [complaint], run.said()
        assert_all_end()
        say(f"{name}: exit status {code}: {complaint}")
    run = Evaluation(done, episodes, CHECKPOINT=str(scratch / "no-checkpoint"))
    code = run.code()
    assert code != 0, run.said()
    say(f"a wrong checkpoint: exit status {code}: {run.line('policy-server: ')}")
    run = Evaluation(done, episodes, CHECKPOINT=str(scratch / "nowhere"))
    code = run.code()
    assert code != 0, run.said()
    say(f"no checkpoint: exit status {code}: {run.line('nowhere')}")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        run = Evaluation(done, episodes, "dashboard", DASHBOARD_PORT=str(busy.getsockname()[1]))
        code = run.code()
        assert code != 0, run.said()
        say(f"a port in use: exit status {code}: {run.line('in use')}")
    assert {path: path.read_bytes() for path in before} == before
    say("nothing was overwritten")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--scratch", type=Path)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(dir=arguments.scratch))
    try:
        undisturbed = Evaluation(scratch / "undisturbed", arguments.episodes)
        assert undisturbed.code() == 0, undisturbed.said()
        expected = outcomes(scratch / "undisturbed")
        assert len(expected) == arguments.episodes
        say(f"without harm: {[str(outcome[0]) for outcome in expected.values()]}")
        harmed(scratch, arguments.episodes, expected)
        full_disk(scratch, arguments.episodes, expected)
        refused(scratch, arguments.episodes)
    finally:
        down()
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
