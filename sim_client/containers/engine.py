"""The Docker engine, as far as simulators need it; each of its errors becomes one line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from policy_interface.companion import last_line
from sim_client.containers.owner import OUTPUT_LABEL, Owner, is_orphan
from sim_client.evaluation.docker_options import DockerOptions
from sim_client.evaluation.errors import EvaluationStoppedError, UsageError

try:
    # By name: in a checkout there is a folder `docker`, which Python would import as a package.
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound
    from docker.models.containers import Container
    from docker.types import LogConfig, Mount

    from docker import DockerClient
except ImportError:
    raise UsageError(
        "--executor docker: the package 'docker' is missing; pip install '.[docker]' in Assay's "
        "checkout"
    ) from None

PROGRAM = ["python3", "-m", "sim_client.containers.worker"]

# Processes share the processors between them already; as in worker processes.
_ENVIRONMENT = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
_MAX_PROCESSES = 512
_API_TIMEOUT_S = 60
_MAX_LAST_WORDS = 4000

_ENGINE_ERRORS = (
    DockerException,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)


@dataclass(frozen=True, kw_only=True)
class ContainerEnd:
    """How a container ended. exit_code: None where the engine is gone, and can't be asked."""

    exit_code: int | None
    ran_out_of_memory: bool
    last_words: str


class Engine:
    """A connection to the engine of this machine.

    Raises UsageError where there is none, where this user may not use it, or where it has no such
    image; and EvaluationStoppedError from any method where the engine fails.
    """

    def __init__(self, options: DockerOptions) -> None:
        self._options = options
        try:
            self._client = DockerClient.from_env(timeout=_API_TIMEOUT_S)
            about = self._client.info()
        except _ENGINE_ERRORS as error:
            raise UsageError(f"--executor docker: {_why_unreachable(error)}") from error
        if not self._client.api.base_url.startswith("http+docker://"):
            raise UsageError(
                f"--executor docker: the engine at {self._client.api.base_url} is not this "
                "machine's, whose folders are mounted; unset DOCKER_HOST"
            )
        if "name=rootless" in about.get("SecurityOptions", ()):
            raise UsageError(
                "--executor docker: a rootless engine gives mounted folders to other users; use "
                "the system's engine, or --executor local"
            )
        self.image_id, self.image_digests = self._find_image()

    def _find_image(self) -> tuple[str, tuple[str, ...]]:
        name = self._options.image
        try:
            image = self._client.images.get(name)
        except ImageNotFound:
            raise UsageError(
                f"--docker.image: the engine has no image {name!r}; build it with `docker compose "
                "build`, pull it, or name another"
            ) from None
        except _ENGINE_ERRORS as error:
            raise UsageError(f"--docker.image {name!r}: {_text(error)}") from error
        return str(image.id), tuple(image.attrs.get("RepoDigests") or ())

    def close(self) -> None:
        with contextlib.suppress(*_ENGINE_ERRORS):
            self._client.close()

    def start(
        self, *, mounts: Mapping[Path, tuple[Path, bool]], user: str, labels: Mapping[str, str]
    ) -> RunningContainer:
        """A new container of the image. mounts: by path inside, the path here and whether it is
        writable there. user: UID:GID, not root's.

        It has no network, no capability, no way to gain any, a read-only root, and its limits;
        the engine removes it when it has ended.
        """
        with engine_errors(f"no container of {self._options.image} could be started"):
            container = self._client.containers.create(
                self.image_id,
                entrypoint=PROGRAM,
                command=[],
                auto_remove=True,
                cap_drop=["ALL"],
                environment=_ENVIRONMENT,
                labels=dict(labels),
                # Nothing of it is kept by the engine: an episode's log is a file of the episode's.
                log_config=LogConfig(type=LogConfig.types.NONE),
                mem_limit=self._options.memory_bytes,
                # No swap besides: a simulator that swaps would only seem to hang.
                memswap_limit=self._options.memory_bytes,
                mounts=[
                    Mount(str(inside), str(here), type="bind", read_only=not is_writable)
                    for inside, (here, is_writable) in mounts.items()
                ],
                nano_cpus=round(self._options.cpus * 1e9),
                network_mode="none",
                pids_limit=_MAX_PROCESSES,
                read_only=True,
                security_opt=["no-new-privileges:true"],
                tmpfs={"/tmp": "rw,nosuid,nodev,mode=1777"},  # noqa: S108 (the container's own)
                user=user,
            )
            try:
                return RunningContainer(self._client, container)
            except BaseException:
                # Never started, so the engine will not remove it by itself.
                with contextlib.suppress(*_ENGINE_ERRORS):
                    container.remove(force=True)
                raise

    def remove_orphans(self, *, run_id: str, here: Owner, output: Path) -> int:
        """End what a dead earlier run into the same folder has left: how many containers."""
        num_removed = 0
        with engine_errors("the containers of earlier runs could not be listed"):
            # Filtered by the engine: of others' containers not even their names are asked.
            ours = self._client.containers.list(
                all=True, filters={"label": f"{OUTPUT_LABEL}={output}"}, ignore_removed=True
            )
            for container in ours:
                if not is_orphan(container.labels, run_id=run_id, here=here, output=output):
                    continue
                # It may be gone, or going, by itself.
                with contextlib.suppress(NotFound, APIError):
                    container.remove(force=True, v=True)
                    num_removed += 1
        return num_removed


class RunningContainer:
    """A container that this process has started. Raises what the SDK raises."""

    def __init__(self, client: DockerClient, container: Container) -> None:
        self._client = client
        self._container = container
        self._since_s = int(time.time()) - 1
        # Attached before it starts, so that no word is missed.
        self._output = container.attach(stdout=True, stderr=True, stream=True)
        container.start()

    @property
    def name(self) -> str:
        return str(self._container.short_id)

    def kill(self) -> None:
        """At once. Nothing happens where it has ended already."""
        with contextlib.suppress(*_ENGINE_ERRORS):
            self._container.kill()

    def wait(self) -> ContainerEnd:
        """Block until it has ended and the engine has removed it."""
        said = b""
        try:
            for words in self._output:
                said = (said + words)[-_MAX_LAST_WORDS:]
            exit_code, ran_out_of_memory = self._how_it_ended()
        except _ENGINE_ERRORS:
            exit_code, ran_out_of_memory = None, False
        return ContainerEnd(
            exit_code=exit_code, ran_out_of_memory=ran_out_of_memory, last_words=_last_line(said)
        )

    def _how_it_ended(self) -> tuple[int | None, bool]:
        """By the engine's events, which outlive the container.

        A read that takes longer than the client's timeout raises.
        """
        events = self._client.events(
            since=self._since_s,
            filters={"container": self._container.id, "event": ["oom", "die", "destroy"]},
            decode=True,
        )
        exit_code, ran_out_of_memory = None, False
        with contextlib.closing(events):
            for event in events:
                match event.get("Action"):
                    case "oom":
                        ran_out_of_memory = True
                    case "die":
                        exit_code = int(event["Actor"]["Attributes"]["exitCode"])
                    case "destroy":
                        break
        # Still None where the engine ended the stream: it is going down itself.
        return exit_code, ran_out_of_memory


@contextlib.contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """What the engine or the way to it raises, as EvaluationStoppedError."""
    try:
        yield
    except _ENGINE_ERRORS as error:
        raise EvaluationStoppedError(f"{what}: {_text(error)}") from error


def _why_unreachable(error: Exception) -> str:
    text = _text(error)
    if "Permission" in text:
        return (
            "this user may not use the Docker engine; join the group docker (which may do all that "
            f"root may), or use --executor local ({text})"
        )
    return f"no Docker engine answers; start it, or use --executor local ({text})"


def _text(error: Exception) -> str:
    text = error.explanation if isinstance(error, APIError) and error.explanation else error
    return " ".join(str(text).split())[:500]


def _last_line(output: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in last_line(output))[:500]
