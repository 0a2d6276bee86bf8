"""`policy-server serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from policy_server.policy import InvalidPolicyError
from policy_server.server import AddressError, OptionError, PolicyServer, ServerOptions
from policy_server.targets import TargetError, TargetOptions, resolve

logger = logging.getLogger(__name__)

_OK, _FAILED, _INTERRUPTED = 0, 1, 130

_BAD_USAGE_ERRORS = (AddressError, InvalidPolicyError, OptionError, TargetError)


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a policy over gRPC until Ctrl-C or SIGTERM.

    Example: policy-server serve runs/pick/checkpoints/final --max-batch-size 16

    Ready when it prints its one line on standard output; its log goes to standard error.
    """

    target: Annotated[str, tyro.conf.Positional]
    """A checkpoint's folder, `hold`, `wave`, or MODULE:CLASS of a policy of your own."""
    address: str = "127.0.0.1:50051"
    """HOST:PORT to listen on; port 0 takes a free one. There is no authentication."""
    max_batch_size: int = 16
    """The most episodes in one forward pass."""
    open_loop_steps: int | None = None
    """Actions to execute before planning again; the policy's own by default."""
    num_flow_steps: int | None = None
    """Denoising steps a chunk; the checkpoint's own by default."""
    device: str | None = None
    """Where a checkpoint runs: cpu (the default), cuda or cuda:N."""
    num_threads: int | None = None
    """Torch's threads on the CPU, 1 by default; more pay where the server has cores to itself."""
    name: str | None = None
    """What clients are told that the policy is called; its own name by default."""
    drain_s: float = 10.0
    """Seconds that steps under way have to finish after Ctrl-C or SIGTERM."""

    def run(self) -> int:
        """Serve until stopped; the exit code."""
        return _serve(self)


def _serve(verb: Serve) -> int:
    if verb.drain_s < 0:
        raise OptionError(f"--drain-s: expected seconds, 0 or more, got {verb.drain_s}")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    code, is_clean = asyncio.run(_serve_until_stopped(verb))
    if not is_clean:
        # A thread is still inside the policy, and the interpreter would wait for it.
        logger.warning("left the policy's thread at work")
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


async def _serve_until_stopped(verb: Serve) -> tuple[int, bool]:
    """The exit code, and whether everything ended."""
    build = resolve(
        verb.target,
        TargetOptions(
            device=verb.device,
            num_flow_steps=verb.num_flow_steps,
            num_threads=verb.num_threads,
            open_loop_steps=verb.open_loop_steps,
        ),
    )
    server = PolicyServer(
        ServerOptions(
            address=verb.address,
            max_batch_size=verb.max_batch_size,
            open_loop_steps=verb.open_loop_steps,
            name=verb.name,
        )
    )
    await server.start()
    signals = _Signals()
    loading = asyncio.create_task(server.load(build))
    stop = asyncio.create_task(signals.wait())
    await asyncio.wait([loading, stop], return_when=asyncio.FIRST_COMPLETED)
    if not stop.done():
        try:
            loading.result()
        except Exception as error:
            await server.drain(grace_s=0)
            if isinstance(error, (*_BAD_USAGE_ERRORS, ModuleNotFoundError)):
                raise
            logger.error("loading %s raised", verb.target, exc_info=error)
            print(
                f"policy-server: {verb.target} could not be loaded: "
                f"{type(error).__name__}: {error}",
                file=sys.stderr,
            )
            return _FAILED, True
        print(
            f"serving {server.metadata.name} at {server.address} "
            f"(batches of up to {verb.max_batch_size}, a plan every {server.open_loop_steps} "
            f"steps, pid {os.getpid()})",
            flush=True,
        )
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


class _Signals:
    """Ctrl-C and SIGTERM, one after the other, as the exit codes that they ask for."""

    def __init__(self) -> None:
        self._codes: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        # SIGTERM is how containers are stopped: obeyed, it is no failure.
        for number, code in ((signal.SIGINT, _INTERRUPTED), (signal.SIGTERM, _OK)):
            loop.add_signal_handler(number, self._codes.put_nowait, code)

    async def wait(self) -> int:
        return await self._codes.get()
