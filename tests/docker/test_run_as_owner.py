"""The entry of every container: whose files it writes, and with which rights."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "run_as_owner.sh"
OWNER, GROUP = 4321, 4322

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=True)


@pytest.fixture
def reachable_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every user may enter, which pytest's own folders are not."""
    folder = tmp_path_factory.mktemp("owned")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)
    return folder


@as_root
def test_the_command_is_the_folders_owner_with_no_capability_and_no_other_group(
    reachable_path: Path,
) -> None:
    os.chown(reachable_path, OWNER, GROUP)
    status = run(reachable_path, "cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(OWNER)] * 4
    assert fields["Gid"].split() == [str(GROUP)] * 4
    assert fields["Groups"].strip() == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name


@as_root
def test_a_root_who_owns_the_folder_keeps_no_capability(reachable_path: Path) -> None:
    status = run(reachable_path, "cat", "/proc/self/status").stdout
    assert "CapEff:\t0000000000000000" in status


@as_root
def test_a_folder_that_docker_has_just_made_goes_to_the_owner_of_the_checkout(
    reachable_path: Path,
) -> None:
    checkout = reachable_path / "compose.yaml"
    checkout.touch()
    os.chown(checkout, OWNER, GROUP)
    results = reachable_path / "results"
    results.mkdir()
    assert run("--adopt-like", checkout, results, "id", "-u").stdout == f"{OWNER}\n"
    assert (results.stat().st_uid, results.stat().st_gid) == (OWNER, GROUP)


@as_root
def test_a_folder_with_something_in_it_or_of_somebody_else_keeps_its_owner(
    reachable_path: Path,
) -> None:
    checkout = reachable_path / "compose.yaml"
    checkout.touch()
    os.chown(checkout, OWNER, GROUP)
    full = reachable_path / "full"
    full.mkdir()
    (full / "ledger.jsonl").touch()
    assert run("--adopt-like", checkout, full, "id", "-u").stdout == "0\n"
    elses = reachable_path / "elses"
    elses.mkdir()
    os.chown(elses, OWNER + 10, GROUP)
    assert run("--adopt-like", checkout, elses, "id", "-u").stdout == f"{OWNER + 10}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="a user who is not root")
def test_a_user_who_is_somebody_already_stays_so(tmp_path: Path) -> None:
    assert run(tmp_path, "id", "-u").stdout == f"{os.geteuid()}\n"


def test_the_commands_exit_status_is_the_containers(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        run(tmp_path, "sh", "-c", "exit 7")
    assert raised.value.returncode == 7
