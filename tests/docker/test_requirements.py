"""The list that an image installs first: one extra, and nothing of another."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def requirements(*extras: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "docker/requirements.py", *extras],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def names(*extras: str) -> set[str]:
    return {
        match[0]
        for line in requirements(*extras).stdout.splitlines()
        if (match := re.match(r"[\w-]+", line))
    }


@pytest.mark.parametrize(
    ("extra", "needed", "foreign"),
    [
        ("serve", {"grpcio", "torch"}, {"drake", "pandas", "pytest"}),
        ("sim", {"grpcio", "drake"}, {"torch", "pandas", "pytest"}),
        ("analysis", {"numpy", "scipy"}, {"torch", "drake", "pytest"}),
        ("ray-node", {"ray"}, {"torch", "drake", "pytest"}),
        ("build-system", {"hatchling"}, {"torch", "drake", "numpy"}),
    ],
)
def test_an_image_gets_its_own_extra_and_no_other(
    extra: str, needed: set[str], foreign: set[str]
) -> None:
    listed = names(extra)
    assert needed <= listed
    assert not foreign & listed


def test_an_unknown_extra_is_refused_with_the_known_ones() -> None:
    result = requirements("simulator")
    assert result.returncode != 0
    assert "no extra 'simulator'" in result.stderr
    assert "'sim'" in result.stderr


def test_each_image_installs_exactly_one_extra() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", dockerfile, re.M | re.S))
    installed = {
        name: re.findall(r"COPY --from=dependencies-(\S+) /opt/assay", stage)
        for name, stage in stages.items()
        if "ENTRYPOINT" in stage
    }
    assert installed == {
        "policy-server": ["serve"],
        "simulator": ["sim"],
        "report": ["analysis"],
        "trainer": ["train"],
        # Which has those of a simulator and of a server, and Ray.
        "ray": ["ray"],
    }


def test_the_locks_are_of_todays_requirements_and_every_package_has_a_hash() -> None:
    result = subprocess.run(
        [sys.executable, "docker/lock.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for lock in (ROOT / "docker" / "locks").glob("*.txt"):
        packages = re.split(r"\n(?=\S)", lock.read_text("utf-8").partition("\n")[2].strip())
        assert packages, lock
        for package in packages:
            assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", package, re.S), package


def _locked(name: str) -> dict[str, str]:
    text = (ROOT / "docker" / "locks" / f"{name}.txt").read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


def test_what_a_ray_node_installs_one_after_another_agrees() -> None:
    versions: dict[str, set[str]] = {}
    for name in ("serve", "sim", "ray-node"):
        for package, version in _locked(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: each for package, each in versions.items() if len(each) > 1} == {}


def test_kuberay_is_told_the_version_of_ray_that_the_image_has() -> None:
    job = ROOT / "docker" / "kubernetes" / "overlays" / "kuberay" / "evaluation.yaml"
    told = re.findall(r"^ *rayVersion: (\S+)$", job.read_text("utf-8"), re.M)
    assert told == [_locked("ray-node")["ray"]]
