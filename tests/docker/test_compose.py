"""What compose.yaml promises, as Compose itself reads it. The run itself is .ci/run's."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

_HAS_COMPOSE = (
    shutil.which("docker") is not None
    and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
)
pytestmark = pytest.mark.skipif(not _HAS_COMPOSE, reason="needs docker compose")


def compose(*profiles: str, **environment: str) -> dict[str, Any]:
    """compose.yaml with its defaults, or with the profiles and variables given."""
    knobs = ("CHECKPOINT", "EPISODES", "RESULTS", "TASKS", "WORKERS")
    inherited = {name: value for name, value in os.environ.items() if name not in knobs}
    result = subprocess.run(
        [
            *("docker", "compose", *(f"--profile={name}" for name in profiles)),
            *("config", "--format", "json"),
        ],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return compose()


def source_of(service: dict[str, Any], target: str) -> Path:
    (source,) = (mount["source"] for mount in service["volumes"] if mount["target"] == target)
    return Path(source)


def test_no_service_has_more_rights_than_it_needs_to_give_them_up(
    defaults: dict[str, Any],
) -> None:
    for name, service in defaults["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("cap_add") or ()) <= {"SETUID", "SETGID", "SETPCAP", "CHOWN"}, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"], name
        assert "privileged" not in service, name


def test_nothing_is_published_and_the_network_leads_nowhere(defaults: dict[str, Any]) -> None:
    for name, service in defaults["services"].items():
        assert not service.get("ports"), name
        assert set(service["networks"]) == {"evaluation"}, name
    assert defaults["networks"]["evaluation"]["internal"]


def test_every_failure_is_seen_by_a_service_that_depends_on_it(defaults: dict[str, Any]) -> None:
    # Compose's exit status says nothing of a service that no other one depends on.
    services = defaults["services"]
    watched = {name for service in services.values() for name in service.get("depends_on") or ()}
    assert set(services) - watched == {"finished"}
    assert services["simulator"]["depends_on"]["policy-server"]["condition"] == "service_healthy"
    assert not services["report"]["depends_on"]["simulator"]["required"]


def test_the_defaults_evaluate_the_checkouts_checkpoint_on_fifty_episodes(
    defaults: dict[str, Any],
) -> None:
    services = defaults["services"]
    assert source_of(services["policy-server"], "/mounted") == ROOT
    assert services["policy-server"]["environment"]["CHECKPOINT"] == ""
    assert services["simulator"]["environment"]["EPISODES"] == "0:50"
    for name in ("simulator", "report"):
        assert source_of(services[name], "/results") == ROOT / "results"


def test_the_knobs_reach_the_services(tmp_path: Path) -> None:
    services = compose(
        CHECKPOINT="runs/mine",
        RESULTS=str(tmp_path),
        TASKS="PutMugOnSaucer",
        EPISODES="10:12",
        WORKERS="3",
    )["services"]
    assert source_of(services["policy-server"], "/mounted") == ROOT / "runs" / "mine"
    assert services["policy-server"]["environment"]["CHECKPOINT"] == "runs/mine"
    environment = services["simulator"]["environment"]
    assert (environment["TASKS"], environment["EPISODES"], environment["WORKERS"]) == (
        "PutMugOnSaucer",
        "10:12",
        "3",
    )
    for name in ("simulator", "report"):
        assert source_of(services[name], "/results") == tmp_path
    assert str(tmp_path / "report" / "index.html") in services["finished"]["entrypoint"][1]


def test_the_checkpoint_is_never_written_to_and_never_made(defaults: dict[str, Any]) -> None:
    (mount,) = (
        mount
        for mount in defaults["services"]["policy-server"]["volumes"]
        if mount["target"] == "/mounted"
    )
    assert mount["read_only"]
    assert not mount["bind"].get("create_host_path")


PROFILES = ("train", "dashboard", "gpu", "lbm-eval", "monitoring")


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    return compose(*PROFILES)["services"]


def test_no_profile_adds_to_what_up_starts_unless_it_is_asked_for(
    defaults: dict[str, Any], everything: dict[str, Any]
) -> None:
    assert set(defaults["services"]) == {"policy-server", "simulator", "report", "finished"}
    asked_for = {profile for each in everything.values() for profile in each.get("profiles") or ()}
    assert asked_for == set(PROFILES)


def test_every_service_is_hardened_whatever_its_profile(everything: dict[str, Any]) -> None:
    for name, service in everything.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"], name


def test_what_a_profile_publishes_it_publishes_on_loopback(everything: dict[str, Any]) -> None:
    published = {
        name: [(port["host_ip"], port["target"]) for port in service["ports"]]
        for name, service in everything.items()
        if service.get("ports")
    }
    assert published == {"dashboard": [("127.0.0.1", 8050)], "grafana": [("127.0.0.1", 3000)]}


def test_the_gpu_profile_reserves_one_and_answers_by_the_servers_name(
    everything: dict[str, Any],
) -> None:
    server = everything["policy-server-gpu"]
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert server["environment"]["DEVICE"] == "cuda"
    assert server["networks"]["evaluation"]["aliases"] == ["policy-server"]
    assert server["build"]["args"]["TORCH"] == "cuda"


def test_the_lbm_eval_profile_builds_on_the_users_wheels(everything: dict[str, Any]) -> None:
    service = everything["simulator-lbm-eval"]
    assert service["build"]["additional_contexts"] == {"wheels": str(ROOT / "lbm-eval-wheels")}
    assert "--simulator lbm-eval" in service["environment"]["SIMULATOR_ARGUMENTS"]
