"""`policy-server serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from policy_interface.usage import UsageError
from policy_server import event_loop, logs
from policy_server.execution import Strategy
from policy_server.message_memory import keep_message_memory
from policy_server.metrics_endpoint import MetricsEndpoint
from policy_server.policy import InvalidPolicyError, Policy
from policy_server.security import BearerTokens, SecurityError, TlsOptions
from policy_server.server import AddressError, OptionError, PolicyServer, ServerOptions
from policy_server.targets import TargetError, TargetOptions, parse_named_target, resolve

logger = logging.getLogger(__name__)

_OK, _FAILED, _INTERRUPTED = 0, 1, 130
_STANDARD_INPUT = 0

_BAD_USAGE_ERRORS = (AddressError, InvalidPolicyError, OptionError, SecurityError, TargetError)


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve policies over gRPC until Ctrl-C or SIGTERM; SIGHUP loads them anew.

    Example: policy-server serve runs/pick/checkpoints/final --max-batch-size 16

    Ready when it prints its one line on standard output; its log goes to standard error. Several
    at once: policy-server serve pick=runs/pick/checkpoints/final mug=runs/mug/checkpoints/final
    """

    targets: Annotated[tuple[str, ...], tyro.conf.Positional]
    """A checkpoint's folder, `hold`, `wave`, `null`, `sleep:MS`, `replay:EPISODE.npz`, or
    MODULE:CLASS of a policy of your own; NAME=TARGET gives it a name. Clients that name none get
    the first."""
    address: str = "127.0.0.1:50051"
    """HOST:PORT to listen on; port 0 takes a free one."""
    max_batch_size: int = 16
    """The most episodes in one forward pass."""
    replicas: int = 1
    """Copies of each policy, each in a thread of its own: so many forward passes at once. More than
    one pays where a pass leaves the processor or the GPU idle, and costs its memory again."""
    max_wait_ms: float = 50.0
    """The longest that a request waits for others that are about to come, to share a forward pass.
    Never longer than such a pass takes; 0 never waits."""
    max_queue: int = 256
    """The most plans that may wait; over it, steps are refused with a hint when to come back."""
    execution: Strategy = "receding"
    """How chunks are executed: the newest (receding), all that reach a step averaged (ensemble),
    or the newest, planned to agree with the one before it (rtc, real-time chunking)."""
    open_loop_steps: int | None = None
    """Actions to execute before planning again; the policy's own by default, 1 for an ensemble."""
    planned_latency_steps: int = 0
    """Control steps from a plan's observation until it takes effect. 0 waits for each plan; with
    more, the chunk before goes on while the next is made."""
    num_flow_steps: int | None = None
    """Denoising steps a chunk; the checkpoint's own by default."""
    device: str | None = None
    """Where a checkpoint runs: cpu (the default), cuda or cuda:N."""
    num_threads: int | None = None
    """Torch's threads on the CPU, 1 by default; more pay where the server has cores to itself."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What a checkpoint computes in."""
    compile: bool = False
    """Compile a checkpoint's network when it is loaded (torch.compile)."""
    batch_invariant: bool | None = None
    """Whether an episode's actions are the same to the bit whatever else is in its batch; by
    default on the CPU they are, on CUDA they are not."""
    name: str | None = None
    """What clients are told that a single policy is called; its own name by default."""
    max_sessions: int = 1024
    """The most episodes remembered at a time."""
    idle_s: float = 3600.0
    """An episode unused for longer is over."""
    max_message_mib: float = 30.0
    """The largest message, either way."""
    max_calls_per_s: float | None = None
    """How often one client may call; as often as it likes by default."""
    tls_certificate: Path | None = None
    """PEM file of the server's certificate chain; with --tls-key, calls are encrypted."""
    tls_key: Path | None = None
    """PEM file of its private key."""
    tls_client_ca: Path | None = None
    """PEM file of the authorities whose clients are let in; others are not."""
    token_file: Path | None = None
    """File of the tokens that calls must bear, one a line."""
    metrics_address: str | None = None
    """HOST:PORT where Prometheus finds /metrics; nowhere by default."""
    log_format: Literal["text", "json"] = "text"
    """How the log on standard error is written."""
    drain_s: float = 10.0
    """Seconds that steps under way have to finish after Ctrl-C or SIGTERM."""

    while_input_open: bool = False
    """End, as by SIGTERM, when standard input ends: for a program that starts this one through a
    pipe, and may be killed."""

    def run(self) -> int:
        """Serve until stopped; the exit code."""
        if not self.targets:
            raise UsageError("name at least one target to serve")
        if self.drain_s < 0:
            raise OptionError(f"--drain-s: expected seconds, 0 or more, got {self.drain_s}")
        if self.name is not None and len(self.targets) > 1:
            raise UsageError("--name is for a single policy; give several as NAME=TARGET")
        logs.configure(self.log_format, "info")
        keep_message_memory()
        code, is_clean = event_loop.run(_serve_until_stopped(self))
        if not is_clean:
            # A thread is still inside a policy, and the interpreter would wait for it.
            logger.warning("left a policy's thread at work")
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)
        return code

    def server_options(self) -> ServerOptions:
        """Raises OptionError, AddressError and SecurityError."""
        return ServerOptions(
            address=self.address,
            max_batch_size=self.max_batch_size,
            replicas=self.replicas,
            max_wait_ms=self.max_wait_ms,
            max_queue=self.max_queue,
            execution=self.execution,
            open_loop_steps=self.open_loop_steps,
            planned_latency_steps=self.planned_latency_steps,
            name=self.name,
            max_sessions=self.max_sessions,
            idle_s=self.idle_s,
            max_message_bytes=round(self.max_message_mib * 2**20),
            max_calls_per_s=self.max_calls_per_s,
            tls=self._tls(),
            tokens=None if self.token_file is None else BearerTokens(self.token_file),
        )

    def _tls(self) -> TlsOptions | None:
        if self.tls_certificate is None and self.tls_key is None:
            if self.tls_client_ca is not None:
                raise OptionError("--tls-client-ca needs --tls-certificate and --tls-key")
            return None
        if self.tls_certificate is None or self.tls_key is None:
            raise OptionError("--tls-certificate and --tls-key go together")
        return TlsOptions(
            certificate=self.tls_certificate, key=self.tls_key, client_ca=self.tls_client_ca
        )

    def builds(self) -> dict[str | None, Callable[[], Policy]]:
        """How to make each policy, by name. Raises TargetError."""
        options = TargetOptions(
            device=self.device,
            num_flow_steps=self.num_flow_steps,
            num_threads=self.num_threads,
            open_loop_steps=self.open_loop_steps,
            precision=self.precision,
            compile=self.compile,
            batch_invariant=self.batch_invariant,
            max_batch_size=self.max_batch_size,
            guided=self.execution == "rtc",
        )
        builds: dict[str | None, Callable[[], Policy]] = {}
        for each in self.targets:
            name, target = parse_named_target(each)
            name = name or self.name
            if name in builds:
                told = "without a name" if name is None else f"named {name!r}"
                raise TargetError(f"{each}: another target is {told} already; use NAME=TARGET")
            builds[name] = resolve(target, options)
        return builds


async def _serve_until_stopped(verb: Serve) -> tuple[int, bool]:
    """The exit code, and whether everything ended."""
    builds = verb.builds()
    server = PolicyServer(verb.server_options())
    await server.start()
    endpoint = None
    try:
        if verb.metrics_address is not None:
            endpoint = MetricsEndpoint(verb.metrics_address, server.metrics.registry)
        return await _serve_started(verb, server, builds)
    except AddressError:
        await server.drain(grace_s=0)
        raise
    finally:
        if endpoint is not None:
            endpoint.close()


async def _serve_started(
    verb: Serve, server: PolicyServer, builds: dict[str | None, Callable[[], Policy]]
) -> tuple[int, bool]:
    signals = _Signals()
    if verb.while_input_open:
        signals.obey_end_of_input()
    loading = asyncio.create_task(server.load(builds))
    stop = asyncio.create_task(signals.wait())
    await asyncio.wait([loading, stop], return_when=asyncio.FIRST_COMPLETED)
    if not stop.done():
        try:
            loading.result()
        except Exception as error:
            await server.drain(grace_s=0)
            if isinstance(error, (*_BAD_USAGE_ERRORS, ModuleNotFoundError)):
                raise
            logger.error("loading %s raised", " ".join(verb.targets), exc_info=error)
            print(
                f"policy-server: {' '.join(verb.targets)} could not be loaded: "
                f"{type(error).__name__}: {error}",
                file=sys.stderr,
            )
            return _FAILED, True
        print(_ready_line(verb, server), flush=True)
        signals.on_hangup(_Reloader(server, verb).begin)
        await stop
    code = stop.result()
    logger.info("draining for up to %g s; interrupt again to stop at once", verb.drain_s)
    draining = asyncio.create_task(server.drain(grace_s=verb.drain_s))
    again = asyncio.create_task(signals.wait())
    await asyncio.wait([draining, again], return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        return again.result(), False
    again.cancel()
    loading.cancel()
    return code, draining.result()


def _ready_line(verb: Serve, server: PolicyServer) -> str:
    names = ", ".join(policy.name for policy in server.policies)
    steps = sorted({policy.execution.num_execute_steps for policy in server.policies})
    return (
        f"serving {names} at {server.address} (batches of up to {verb.max_batch_size}, "
        f"a plan every {' or '.join(map(str, steps))} steps, pid {os.getpid()})"
    )


class _Reloader:
    """Loads every target anew, one reload after the other."""

    def __init__(self, server: PolicyServer, verb: Serve) -> None:
        self._server = server
        self._verb = verb
        self._task: asyncio.Task[None] | None = None
        self._is_wanted = False

    def begin(self) -> None:
        self._is_wanted = True
        if self._task is None:
            self._task = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                tokens = self._server.options.tokens
                try:
                    if tokens is not None:
                        tokens.reload()
                    names = [policy.name for policy in self._server.policies]
                    builds = self._verb.builds().values()
                    await self._server.reload(dict(zip(names, builds, strict=True)))
                # The edge of a reload: what is served now goes on being served.
                except Exception as error:
                    logger.error("reloading failed, the former policies stay", exc_info=error)
        finally:
            self._task = None


class _Signals:
    """Ctrl-C and SIGTERM, one after the other, as the exit codes that they ask for."""

    def __init__(self) -> None:
        self._codes: asyncio.Queue[int] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        # SIGTERM is how containers are stopped: obeyed, it is no failure.
        for number, code in ((signal.SIGINT, _INTERRUPTED), (signal.SIGTERM, _OK)):
            self._loop.add_signal_handler(number, self._codes.put_nowait, code)
        # Until there is something to load anew, a hangup asks for nothing.
        self.on_hangup(lambda: None)

    def obey_end_of_input(self) -> None:
        """The end of standard input is like SIGTERM. Raises OptionError where none can be seen."""

        def read() -> None:
            if not os.read(_STANDARD_INPUT, 4096):
                self._loop.remove_reader(_STANDARD_INPUT)
                self._codes.put_nowait(_OK)

        try:
            self._loop.add_reader(_STANDARD_INPUT, read)
        except OSError as error:
            raise OptionError(
                f"--while-input-open: standard input must be a pipe: {error.strerror}"
            ) from error

    def on_hangup(self, action: Callable[[], None]) -> None:
        self._loop.add_signal_handler(signal.SIGHUP, action)

    async def wait(self) -> int:
        return await self._codes.get()
