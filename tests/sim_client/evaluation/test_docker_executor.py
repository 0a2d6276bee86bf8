"""Simulators in containers of a real engine: the same outcomes, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim_client.containers.owner import OUTPUT_LABEL, OWNER_LABEL, RUN_LABEL, Owner
from sim_client.containers.relay import Relay
from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.docker_options import DockerOptions
from sim_client.evaluation.runner import run
from step_analysis.ledger import read_ledger
from step_analysis.rollouts import Outcome, RolloutRecord

ROOT = Path(__file__).parents[3]
BASE_IMAGE = "assay-simulator"


def docker(*arguments: str) -> str:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=True, timeout=300
    ).stdout.strip()


def _has_image() -> bool:
    if shutil.which("docker") is None:
        return False
    found = subprocess.run(["docker", "image", "inspect", BASE_IMAGE], capture_output=True)
    return found.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _has_image(), reason=f"needs a Docker engine with {BASE_IMAGE}"),
]


@pytest.fixture(scope="module")
def make_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Images of the tree under test with the fake station in them, and what happens there."""
    context = tmp_path_factory.mktemp("image")
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("sim_client", "step_analysis"):
        shutil.copytree(ROOT / package, context / "tree" / package, ignore=ignore)
    interface = ROOT / "proto" / "policy_interface"
    shutil.copytree(interface, context / "tree" / "policy_interface", ignore=ignore)
    shutil.copy(Path(__file__).with_name("fake_station.py"), context / "tree")
    names: list[str] = []

    def make(
        fates: dict[int, str] | None = None, *, base: str = BASE_IMAGE, last_line: str = ""
    ) -> str:
        name = f"assay-test-simulator:{os.getpid()}-{len(names)}"
        text = json.dumps(json.dumps(fates or {})).replace("$", "")
        (context / "Dockerfile").write_text(
            f"FROM {base}\nCOPY tree /tree\n"
            f"ENV PYTHONPATH=/tree FAKE_STATION_MARKS=/tmp FAKE_STATION_SCRIPT={text}\n"
            f"{last_line}\n"
        )
        docker("build", "--quiet", "--tag", name, str(context))
        names.append(name)
        return name

    yield make
    for name in names:
        docker("image", "rm", "--force", name)


@pytest.fixture(scope="module")
def image(make_image: Callable[..., str]) -> str:
    return make_image()


def records(tmp_path: Path, folder: str = "rollouts") -> list[RolloutRecord]:
    return read_ledger(tmp_path / folder / "hold" / "ledger.jsonl")


def containers_of(folder: Path) -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter", f"label={OUTPUT_LABEL}={folder}").split()


def in_containers(image: str, **more: Any) -> dict[str, Any]:
    return {"executor": "docker", "docker": DockerOptions(image=image, memory="1g"), **more}


def test_outcomes_are_those_of_local_processes_to_the_bit(
    served: Any, evaluate: Any, image: str, tmp_path: Path
) -> None:
    assert evaluate("0:3", output=tmp_path / "local") == 0
    assert evaluate("0:3", **in_containers(image, workers=2)) == 0
    local = {r.key: (r.outcome, r.state_digest, r.detail) for r in records(tmp_path, "local")}
    there = {r.key: (r.outcome, r.state_digest, r.detail) for r in records(tmp_path)}
    assert there == local
    folder = tmp_path / "rollouts" / "hold"
    assert containers_of(folder) == []
    assert not list(folder.glob(".simulators-*"))
    (log,) = folder.glob("*/rollouts/*/*/demonstration_1/simulator.log")
    (actions,) = folder.glob("*/rollouts/*/*/demonstration_1/actions.npz")
    assert {log.stat().st_uid, actions.stat().st_uid} == {os.getuid()}


def test_a_container_has_no_rights_no_network_and_its_limits(
    served: Any, evaluate: Any, make_gate: Any, image: str, tmp_path: Path
) -> None:
    gate = make_gate(0)
    served.before_step = gate
    folder = tmp_path / "rollouts" / "hold"
    done = in_thread(lambda: evaluate("0:1", **in_containers(image)))
    gate.wait_until_reached()
    (container,) = containers_of(folder)
    (about,) = json.loads(docker("inspect", container))
    host = about["HostConfig"]
    assert about["Config"]["User"].split(":")[0] not in ("", "0")
    assert host["ReadonlyRootfs"]
    assert host["AutoRemove"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["NetworkMode"] == "none"
    assert not host["Privileged"]
    assert (host["Memory"], host["MemorySwap"]) == (2**30, 2**30)
    assert host["NanoCpus"] == 10**9
    assert host["LogConfig"]["Type"] == "none"
    # The ledger is not among what is mounted: two sockets, and this episode's own folder.
    assert [mount["Destination"] for mount in about["Mounts"] if mount["RW"]] == [
        "/evaluation/episode"
    ]
    assert len(about["Mounts"]) == 3
    gate.open()
    assert done() == 0


@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_a_container_that_dies_or_hangs_has_its_episode_run_again(
    harm: str, served: Any, evaluate: Any, make_gate: Any, image: str, tmp_path: Path
) -> None:
    assert evaluate("0:3", output=tmp_path / "local") == 0
    gate = make_gate(1)
    served.before_step = gate
    folder = tmp_path / "rollouts" / "hold"
    # The engine has so long to do harm before the step that waits is given up.
    limits = {"step_timeout_s": 15.0, "wait_for_server_s": 15.0, "stall_timeout_s": 20.0}
    done = in_thread(lambda: evaluate("0:3", **in_containers(image, **limits)))
    gate.wait_until_reached()
    (container,) = containers_of(folder)
    docker(harm, container)
    gate.open()
    assert done() == 0
    assert containers_of(folder) == []
    there = records(tmp_path)
    (lost,) = [r for r in there if r.outcome is Outcome.ERROR]
    expected = {"kill": "was ended by SIGKILL", "pause": "no sign of life for 20 s"}[harm]
    assert expected in (lost.message or "")
    counted = {r.key: r.state_digest for r in there if r.outcome.counts}
    assert counted == {r.key: r.state_digest for r in records(tmp_path, "local")}
    assert {r.seed for r in there if r.scenario_index == 1} == {lost.seed}


def test_a_container_that_needs_too_much_memory_is_no_verdict(
    served: Any, evaluate: Any, make_image: Any, image: str, tmp_path: Path
) -> None:
    greedy = make_image({0: "eat memory"})
    options = in_containers(greedy) | {"docker": DockerOptions(image=greedy, memory="256m")}
    assert evaluate("0:1", max_attempts=1, **options) == 1
    (lost,) = records(tmp_path)
    assert lost.outcome is Outcome.ERROR
    assert "ran out of its memory, 256m (--docker.memory)" in (lost.message or "")
    assert evaluate("0:1", **in_containers(image)) == 0
    assert [r.outcome for r in records(tmp_path)] == [Outcome.ERROR, Outcome.SUCCESS]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_evaluation_and_it_resumes(
    number: signal.Signals,
    served: Any,
    evaluate: Any,
    script: Any,
    make_gate: Any,
    image: str,
    tmp_path: Path,
) -> None:
    gate = make_gate(1)
    served.before_step = gate
    options = {
        "tasks": ["PickAndPlaceBox"],
        "episodes": "0:3",
        "address": served.address,
        "workers": 1,
        "output": str(tmp_path / "rollouts"),
        "image": image,
    }
    program = str(Path(__file__).with_name("evaluate_with_fake_station.py"))
    process = subprocess.Popen(
        [sys.executable, program, json.dumps(options)], start_new_session=True
    )
    gate.wait_until_reached()
    (container,) = containers_of(tmp_path / "rollouts" / "hold")
    removed = subprocess.Popen(
        # From the past on: it may begin to listen only when the container is gone.
        [
            *("docker", "events", "--since", "1h"),
            *("--filter", f"container={container}", "--filter", "event=destroy"),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        process.send_signal(number)
        expected = -number if number is signal.SIGKILL else 130
        assert process.wait(timeout=240) == expected
        if number is signal.SIGKILL and containers_of(tmp_path / "rollouts" / "hold"):
            # It ends by itself: nobody is left to end it.
            assert removed.stdout is not None
            assert removed.stdout.readline()
        assert containers_of(tmp_path / "rollouts" / "hold") == []
    finally:
        removed.kill()
        removed.wait()
    gate.open()
    assert evaluate("0:3", **in_containers(image, time_limit_s=None)) == 0
    assert sorted(r.scenario_index for r in records(tmp_path)) == [0, 1, 2]
    # What the killed run could not remove, the next one has.
    assert not list((tmp_path / "rollouts" / "hold").glob(".simulators-*"))


def test_only_what_a_dead_run_left_in_this_folder_is_removed(
    served: Any, evaluate: Any, image: str, tmp_path: Path
) -> None:
    folder = tmp_path / "rollouts" / "hold"
    alive = Owner.this_process()
    child = subprocess.Popen(["sleep", "600"])
    dead = Owner(
        pid=child.pid,
        start_ticks=1,
        pid_namespace=alive.pid_namespace,
        boot_id=alive.boot_id,
    )
    all_labels = {
        "ours, its owner gone": (RUN_LABEL, dead, folder),
        "ours, its owner alive": (RUN_LABEL, alive, folder),
        "another folder's": (RUN_LABEL, dead, tmp_path),
        "no run's": ("other", dead, folder),
    }
    made = {}
    try:
        for name, (run, owner, output) in all_labels.items():
            labels = {run: "ab", OWNER_LABEL: str(owner), OUTPUT_LABEL: str(output)}
            flags = [word for k, v in labels.items() for word in ("--label", f"{k}={v}")]
            made[name] = docker("run", "--detach", *flags, "--entrypoint", "sleep", image, "600")
        assert evaluate("0:1", **in_containers(image)) == 0
        there = docker("ps", "--quiet", "--no-trunc").split()
        assert {name for name, one in made.items() if one in there} == {
            "ours, its owner alive",
            "another folder's",
            "no run's",
        }
    finally:
        child.kill()
        child.wait()
        for one in made.values():
            subprocess.run(["docker", "rm", "--force", one], capture_output=True)


def test_an_image_that_is_not_ours_or_not_there_is_refused_in_one_line(
    served: Any, evaluate: Any, make_image: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert evaluate("0:1", **in_containers("assay-no-such-image")) == 2
    assert "the engine has no image 'assay-no-such-image'; build it" in capsys.readouterr().err
    stranger = make_image(base="python:3.11-slim-bookworm")
    assert evaluate("0:1", **in_containers(stranger)) == 1
    assert "holds no simulator of ours: its container ended with" in capsys.readouterr().err
    changed = make_image(
        last_line="USER 0\nRUN echo '# another state' >> /tree/sim_client/__init__.py"
    )
    assert evaluate("0:1", **in_containers(changed)) == 1
    assert "would simulate something else than this program: assay_source" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "rollouts" / "hold" / "ledger.jsonl").read_bytes()


def test_the_projects_own_station_simulates_the_same(
    served: Any, image: str, tmp_path: Path
) -> None:
    def ends(folder: str, **more: Any) -> list[str | None]:
        config = EvaluationConfig(
            tasks=("PickAndPlaceBox",),
            episodes=EpisodeRange(0, 2),
            address=served.address,
            workers=1,
            time_limit_s=0.5,
            output=tmp_path / folder,
            **more,
        )
        assert run(config) == 0
        return [r.state_digest for r in records(tmp_path, folder)]

    there = ends("docker", executor="docker", docker=DockerOptions(image=image))
    assert there == ends("local")
    assert len(set(there)) == 2


def test_an_engine_that_goes_away_stops_the_evaluation_and_costs_no_verdict(
    served: Any,
    evaluate: Any,
    make_gate: Any,
    image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = make_gate(1)
    served.before_step = gate
    engine = tmp_path / "engine.sock"
    with Relay(engine, "unix:/var/run/docker.sock"):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{engine}")
        done = in_thread(lambda: evaluate("0:2", **in_containers(image)))
        gate.wait_until_reached()
    assert done() == 1
    assert "the Docker engine is gone, and its containers with it" in capsys.readouterr().err
    assert [r.outcome for r in records(tmp_path)] == [Outcome.SUCCESS]
    gate.open()
    monkeypatch.delenv("DOCKER_HOST")
    assert evaluate("0:2", **in_containers(image)) == 0
    assert containers_of(tmp_path / "rollouts" / "hold") == []


@pytest.fixture
def as_another() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Evaluate as somebody who is not root and owns the output, with further groups or none."""
    if os.getuid() != 0:
        pytest.skip("who runs the tests is not root: all of them are of such a user")
    python = _python_for_others()
    if python is None:
        pytest.skip("no Python of this version that others than root may run")

    def evaluate(options: dict[str, Any], *groups: int) -> subprocess.CompletedProcess[str]:
        os.chown(Path(options["output"]).parent, _ANOTHER, _ANOTHER)
        program = Path(__file__).with_name("evaluate_with_fake_station.py")
        return subprocess.run(
            [python, "-B", program, json.dumps(options)],
            user=_ANOTHER,
            group=_ANOTHER,
            extra_groups=groups,
            env=os.environ | {"PYTHONPATH": ":".join(sys.path), "HOME": "/tmp"},  # noqa: S108
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return evaluate


_ANOTHER = 12_321


def _python_for_others() -> str | None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        with contextlib.suppress(OSError):
            answer = subprocess.run([python, "-c", ""], user=_ANOTHER, capture_output=True)
            if answer.returncode == 0:
                return python
    return None


def test_a_user_who_is_not_root_owns_all_that_comes_of_it(
    served: Any,
    script: Any,
    as_another: Callable[..., subprocess.CompletedProcess[str]],
    image: str,
) -> None:
    script({})
    engine = Path("/var/run/docker.sock").stat().st_gid
    # The folders of pytest are root's alone.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        options = {
            "tasks": ["PickAndPlaceBox"],
            "episodes": "0:2",
            "address": served.address,
            "workers": 2,
            "output": f"{folder}/rollouts",
            "image": image,
        }
        without = as_another(options)
        assert without.returncode == 2
        (line,) = without.stderr.splitlines()
        assert "this user may not use the Docker engine; join the group docker" in line
        ended = as_another(options, engine)
        assert ended.returncode == 0, ended.stderr
        results = Path(folder) / "rollouts"
        done = read_ledger(results / "hold" / "ledger.jsonl")
        assert sorted(record.scenario_index for record in done) == [0, 1]
        assert {path.stat().st_uid for path in results.rglob("*")} == {_ANOTHER}
        assert list(results.glob("hold/*/rollouts/*/*/demonstration_1/simulator.log"))
        assert containers_of(results / "hold") == []


def in_thread(work: Callable[[], int]) -> Callable[[], int]:
    """Start; what is returned waits for its result."""
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()

    def wait() -> int:
        thread.join(timeout=600)
        assert results, "the evaluation has not ended"
        return results[0]

    return wait
