"""Build the image of LBM Eval from wheels of its stand-in, and evaluate through it.

    python tests/docker/lbm_eval_image.py [--scratch FOLDER]

LBM Eval's own wheels are the user's; those of the stand-in that tests use have its names, its entry
points and Drake, so the image, its installation and `docker compose up lbm-eval` are tried for
real. Needs an engine and the images (`docker compose build`). It takes some minutes, and prints a
line for each thing that it has seen to hold.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from policy_interface.generate import SOURCES
from sim_client.lbm_eval.skills import SKILLS
from step_analysis.ledger import read_ledger

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "sim_client" / "lbm_eval" / "stand_in"
PROJECT = "assay-lbm-eval-image"
TASK = "PutMugOnSaucer"
VERSION = "1.1.0"
PACKAGES = {
    "robot_gym": ("robot_gym", "grpc_workspace"),
    "lbm_eval": ("lbm_eval",),
    "lbm_eval_models": (),
    "lbm_eval_scenarios": (),
}
IMAGE = "assay-lbm-eval"
_FIRST_WITH_CONTEXTS = 23
_BEFORE = "# LBM Eval is the user's: "
NEEDS = ("drake", "grpcio", "grpcio-health-checking", "numpy", "protobuf")


def write_wheels(folder: Path) -> None:
    """The four wheels of LBM Eval 1.1.0, by name, with the stand-in in them."""
    from grpc_tools import protoc

    folder.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        shutil.copytree(STAND_IN, tree, ignore=shutil.ignore_patterns("__pycache__", "*-info"))
        package = tree / "grpc_workspace" / "proto"
        package.mkdir()
        sources = SOURCES / "lbm_policy_interface"
        names = [source.name for source in sources.glob("*.proto")]
        assert protoc.main(["", f"--proto_path={sources}", f"--python_out={package}", *names]) == 0
        for name, packages in PACKAGES.items():
            files = {
                path.relative_to(tree).as_posix(): path.read_bytes()
                for each in packages
                for path in sorted((tree / each).rglob("*.py"))
            }
            _write_wheel(folder, name, files)


def _write_wheel(folder: Path, name: str, files: dict[str, bytes]) -> None:
    info = f"{name}-{VERSION}.dist-info"
    requirements = "".join(f"Requires-Dist: {each}\n" for each in NEEDS)
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n{requirements}"
    ).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(
        f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in files.items()
    )
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / f"{name}-{VERSION}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def override() -> str:
    """The stand-in's own variables, and a policy without weights: the one that ships sees too
    little for a station of LBM Eval."""
    skills = json.dumps([skill.snake_case_name for skill in SKILLS.values()])
    script = (
        "sed 's/serve \"$$path\"/serve hold/' /opt/assay/bin/serve_until_evaluated.sh >/tmp/serve"
        " && exec sh /tmp/serve"
    )
    return json.dumps(
        {
            "services": {
                "policy-server": {
                    "entrypoint": ["run_as_owner.sh", "/mounted", "sh", "-c", script]
                },
                "simulator-lbm-eval": {
                    "environment": {
                        "LBM_STAND_IN_SKILLS": skills,
                        "LBM_STAND_IN_SCRIPT": json.dumps({"1": "timeout"}),
                        "LBM_STAND_IN_MARKS": "/tmp",  # noqa: S108 (the container's own)
                    }
                },
            }
        }
    )


def compose(*arguments: str, wheels: Path, **knobs: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", "-p", PROJECT, *arguments],
        cwd=ROOT,
        env=os.environ | {"LBM_EVAL_WHEELS": str(wheels)} | knobs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def build(wheels: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    """By Compose; where the engine is too old for a folder besides the context, by the same
    Dockerfile with that folder as a stage of it."""
    if _engine_version() >= _FIRST_WITH_CONTEXTS:
        return compose("--progress", "plain", "build", "simulator-lbm-eval", wheels=wheels)
    context = scratch / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    names = ("docker", "pyproject.toml", "README.md", "LICENSE", "proto", "trainer")
    for name in (*names, "policy_server", "sim_client", "step_analysis"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, context / name)
    shutil.copytree(wheels, context / "wheels")
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    stage = "FROM scratch AS wheels\nCOPY wheels /\n\n"
    (context / "Dockerfile").write_text(dockerfile.replace(_BEFORE, stage + _BEFORE))
    return subprocess.run(
        ["docker", "build", "--progress=plain", "--target", "lbm-eval", "-t", IMAGE, context],
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _engine_version() -> int:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(told.partition(".")[0])


def refused(wheels: Path, scratch: Path, words: str) -> None:
    """The build ends, and what it ran says why in one line."""
    built = build(wheels, scratch)
    assert built.returncode != 0, built.stdout
    told = [line for line in built.stdout.splitlines() if words in line]
    assert told, built.stdout
    say(f"refused: {told[0]}")


def evaluated(scratch: Path, wheels: Path) -> None:
    results = scratch / "results"
    (scratch / "override.yaml").write_text(override())
    files = ("-f", "compose.yaml", "-f", str(scratch / "override.yaml"))
    knobs = {"RESULTS": str(results), "TASKS": TASK, "EPISODES": "0:3", "WORKERS": "1"}
    ran = compose(*files, "up", "--no-build", "lbm-eval", wheels=wheels, **knobs)
    assert ran.returncode == 0, ran.stdout
    (ledger,) = results.glob("*/ledger.jsonl")
    outcomes = {record.scenario_index: record.outcome.value for record in read_ledger(ledger)}
    assert outcomes == {0: "success", 1: "timeout", 2: "success"}, ran.stdout
    provenance = json.loads(ledger.with_name("provenance.json").read_text())
    assert provenance["protocol"]["software"]["lbm_eval"] == VERSION
    assert (results / "report" / "index.html").is_file()
    say(f"docker compose up lbm-eval: {outcomes}, lbm_eval {VERSION}, and a report")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scratch", type=Path)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(dir=arguments.scratch))
    try:
        wheels = scratch / "wheels"
        write_wheels(wheels)
        shutil.copytree(wheels, scratch / "incomplete")
        (scratch / "incomplete" / f"lbm_eval-{VERSION}-py3-none-any.whl").unlink()
        refused(scratch / "incomplete", scratch, "no lbm_eval-*.whl")
        built = build(wheels, scratch)
        assert built.returncode == 0, built.stdout
        say("built assay-lbm-eval")
        evaluated(scratch, wheels)
    finally:
        compose("--profile", "lbm-eval", "down", "--volumes", "--timeout", "5", wheels=scratch)
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
