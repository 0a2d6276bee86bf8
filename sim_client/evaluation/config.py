"""What an evaluation is asked to do, checked before anything starts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sim_client.evaluation.docker_options import DockerOptions
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.likeness import may_be_allowed
from sim_client.evaluation.ray_options import RayOptions
from sim_client.evaluation.recording_options import RecordingOptions
from sim_client.evaluation.server_connection import ServerConnection

# LBM Eval's rule: demonstrations take index + 100, evaluations lie this much higher, so that no
# policy is ever judged on a scenario that it could have been trained on.
FIRST_SEED = 100
EVALUATION_SEED_OFFSET = 100_000_000
# PolicyReset carries the seed as a uint32.
_MAX_SCENARIO_INDEX = 2**32 - 1 - FIRST_SEED - EVALUATION_SEED_OFFSET


def evaluation_seed(scenario_index: int) -> int:
    """The seed of the policy's noise and of the scene, held out from all demonstrations."""
    return scenario_index + FIRST_SEED + EVALUATION_SEED_OFFSET


@dataclass(frozen=True)
class EpisodeRange:
    """Scenario indices from `start` up to, but without, `stop`; `0:50` on the command line."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= _MAX_SCENARIO_INDEX + 1:
            raise ValueError(
                f"episodes {self}: expected START:END with 0 <= START < END <= "
                f"{_MAX_SCENARIO_INDEX + 1}, such as 0:50"
            )

    def __str__(self) -> str:
        return f"{self.start}:{self.stop}"

    def __len__(self) -> int:
        return self.stop - self.start

    @staticmethod
    def parse(text: str) -> EpisodeRange:
        match = re.fullmatch(r"([0-9]{1,12}):([0-9]{1,12})", text)
        if match is None:
            raise ValueError(f"episodes {text!r}: expected START:END, such as 0:50")
        return EpisodeRange(int(match[1]), int(match[2]))


# A dataclass of its own would become two flags; this reads it as the one word START:END.
_ONE_WORD = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="START:END",
    instance_from_str=lambda words: EpisodeRange.parse(words[0]),
    is_instance=lambda value: isinstance(value, EpisodeRange),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluate a served policy in simulation, episode by episode, resumable at any time."""

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK[,TASK]")]
    """Names, separated by commas: PickAndPlaceBox,PutMugOnSaucer; or one of the sets all, one-arm,
    two-arms, seen, unseen. `sim-client tasks` lists them."""
    simulator: Literal["drake", "lbm-eval"] = "drake"
    """The project's own station in Drake, or the LBM Eval that you have installed."""
    lbm_eval_python: Path | None = None
    """Python of the environment that has LBM Eval's wheels; by default the one that runs this."""
    episodes: Annotated[EpisodeRange, _ONE_WORD] = EpisodeRange(0, 50)
    """Scenarios of each task, START:END without END."""
    address: str = "127.0.0.1:50051"
    """HOST:PORT of the policy server."""
    served_policy: str | None = None
    """Which of the server's policies, by its name there; its first by default."""
    tls_ca: Path | None = None
    """PEM file of the authority to trust for the server; the connection is then encrypted."""
    token_file: Path | None = None
    """File of the token that the server asks for."""
    workers: int = 2
    """Simulators that run at once."""
    executor: Literal["local", "docker", "ray"] = "local"
    """Where simulators run: processes of this machine, containers on it, or actors on a Ray
    cluster."""
    docker: DockerOptions = field(default_factory=DockerOptions)
    ray: RayOptions = field(default_factory=RayOptions)
    output: Path = Path("rollouts")
    """Folder that results go to, below a folder named after the policy."""
    like: Path | None = None
    """provenance.json of an earlier evaluation, or a folder of results, with that of the policy
    in it: refuse to evaluate where something differs that outcomes may depend on."""
    allow_different: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[,NAME]")] = ()
    """What may differ from --like all the same, such as simulator.gl_renderer or server."""
    policy_name: str | None = None
    """Name in results and reports; by default the one that the server states."""
    max_sample_size: int | None = None
    """Budget of episodes a task that the statistics may ever see, fixed at the first run; by
    default the number of episodes. Up to it, an evaluation can be extended later."""
    shift: str = ""
    """Levels of distribution shift, such as lighting=high,camera=medium; nominal by default."""
    latency_ms: float = 0.0
    """How long the simulated world goes on until an action takes effect; 0 stands still for it."""
    video: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CAMERA[,CAMERA]")] = ()
    """Film each episode with these cameras: cameras.mp4, which plays even if cut off."""
    save_meshcat: bool = False
    """Keep each episode in three dimensions: recording.html, for any browser."""
    save_states: bool = False
    """Keep every position and velocity of each control step: states.npz."""
    meshcat_port: int | None = None
    """Show the running episodes live on this machine: on this port for one worker, on a free one
    after it for each other."""
    max_attempts: int = 3
    """Attempts at an episode in this run while it ends in infrastructure errors."""
    wait_for_server_s: Annotated[float, tyro.conf.arg(name="wait-for-server")] = 60.0
    """Seconds to wait for the server, at the start and whenever it is gone."""
    step_timeout_s: float = 30.0
    """Deadline of each call to the policy server."""
    stall_timeout_s: float = 180.0
    """A worker without a control step for so long is replaced."""
    time_limit_s: float | None = None
    """Simulated seconds an episode may take, instead of each task's own limit."""
    while_input_open: bool = False
    """End, as by SIGTERM, when standard input ends: for a program that starts this one through a
    pipe, and may be killed."""

    def connection(self) -> ServerConnection:
        """How to speak with the server."""
        return ServerConnection(
            address=self.address,
            policy=self.served_policy,
            tls_ca=self.tls_ca,
            token_file=self.token_file,
            timeout_s=self.step_timeout_s,
        )

    def recordings(self) -> RecordingOptions:
        """What is kept of each episode."""
        return RecordingOptions(
            video_cameras=self.video,
            save_meshcat=self.save_meshcat,
            save_states=self.save_states,
            meshcat_port=self.meshcat_port,
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", _words(self.tasks))
        object.__setattr__(self, "allow_different", _words(self.allow_different))
        object.__setattr__(self, "video", tuple(dict.fromkeys(_words(self.video))))
        if not self.tasks:
            raise UsageError("--tasks: expected at least one task; `sim-client tasks` lists them")
        if self.lbm_eval_python is not None and self.simulator != "lbm-eval":
            raise UsageError("--lbm-eval-python: only with --simulator lbm-eval")
        self._check_executor()
        self._check_likeness()
        if self.simulator == "lbm-eval":
            self._refuse_own_station_options()
        _check_address(self.address)
        for name in ("workers", "max_attempts"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{_flag(name)}: expected at least 1, got {getattr(self, name)}")
        for name in ("step_timeout_s", "stall_timeout_s", "time_limit_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{_flag(name)}: expected a positive number, got {value}")
        if not 0 <= self.latency_ms < math.inf:
            raise UsageError(
                f"--latency-ms: expected 0 or more milliseconds, got {self.latency_ms}"
            )
        if self.meshcat_port is not None and not 1024 <= self.meshcat_port <= 65535:
            raise UsageError(f"--meshcat-port: expected 1024 to 65535, got {self.meshcat_port}")
        if not 0 <= self.wait_for_server_s < math.inf:
            raise UsageError(
                f"--wait-for-server: expected 0 or more seconds, got {self.wait_for_server_s}"
            )
        if self.stall_timeout_s <= max(self.step_timeout_s, self.wait_for_server_s):
            raise UsageError(
                f"--stall-timeout-s {self.stall_timeout_s:g}: expected more than --step-timeout-s "
                f"{self.step_timeout_s:g} and --wait-for-server {self.wait_for_server_s:g}, or "
                "workers that wait for the server would be taken for hung"
            )
        if self.max_sample_size is not None and self.max_sample_size < len(self.episodes):
            raise UsageError(
                f"--max-sample-size {self.max_sample_size}: expected at least the "
                f"{len(self.episodes)} episodes of --episodes {self.episodes}"
            )

    def _check_executor(self) -> None:
        for name, options in (("docker", DockerOptions()), ("ray", RayOptions())):
            if self.executor != name and getattr(self, name) != options:
                raise UsageError(f"--{name}.*: only with --executor {name}")
        if self.executor == "local":
            return
        if self.simulator == "lbm-eval":
            raise UsageError(
                f"--executor {self.executor}: not with --simulator lbm-eval; use local"
            )
        if self.meshcat_port is not None:
            where = "have no network" if self.executor == "docker" else "are elsewhere"
            raise UsageError(
                f"--meshcat-port: not with --executor {self.executor}, whose simulators {where}; "
                "--save-meshcat keeps the scenes"
            )

    def _check_likeness(self) -> None:
        if self.allow_different and self.like is None:
            raise UsageError("--allow-different: only with --like")
        for name in self.allow_different:
            if not may_be_allowed(name):
                raise UsageError(
                    f"--allow-different {name!r}: expected a name as --like tells them, such as "
                    "server.torch, simulator.drake, protocol.latency_ms, policy.checkpoint, or "
                    "policy, protocol, seeds, server, simulator for all of one kind"
                )

    def _refuse_own_station_options(self) -> None:
        for name in ("shift", "latency_ms", "video", "save_states", "meshcat_port"):
            if getattr(self, name) not in (None, "", 0.0, (), False):
                raise UsageError(
                    f"--{_flag(name)}: not with --simulator lbm-eval, whose scenes and recordings "
                    "are its own (--save-meshcat keeps them)"
                )


def _words(items: tuple[str, ...]) -> tuple[str, ...]:
    words = [word.strip() for item in items for word in item.split(",")]
    return tuple(word for word in words if word)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _check_address(address: str) -> None:
    if address.startswith("unix:"):
        return
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise UsageError(f"--address {address!r}: expected HOST:PORT, such as 127.0.0.1:50051")
