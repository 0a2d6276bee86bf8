"""`step-analysis dashboard`."""

import gc
import re
import secrets
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from step_analysis.usage import UsageError

_ALLOCATIONS_A_COLLECTION = 100_000
_TOKEN_BYTES = 24
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """Show live results of running and finished evaluations in a browser.

    Reads the output folder of `sim-client evaluate`, or results of LBM Eval, VLA Foundry, vla-eval,
    LeRobot, CSV or parquet, again as they change, and writes nothing. Serves this machine alone;
    with --host another address, for which a token is then needed.

    Example: step-analysis dashboard rollouts
    """

    results: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]]
    """Folder with results, or where they will be."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8050
    """Port to listen on; 0 takes a free one."""
    allowed_host: tuple[str, ...] = ()
    """Further names under which browsers may ask, such as this machine's."""
    token_file: Path | None = None
    """File with the token of those who may read; by default a new one is printed where another
    machine can ask."""
    interval: float = 1.0
    """Seconds from one look at the folder to the next."""
    count_errors_as_failures: bool = False
    """Count errors that a file scores as failures of the policy so, as its writer does."""
    browser: bool = False
    """Open the page."""

    def run(self, arguments: Sequence[str] = ()) -> None:
        """Serve until interrupted."""
        del arguments
        if not self.results.is_dir():
            raise UsageError(f"{self.results}: no such folder")
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port must lie within 0 to 65535, got {self.port}")
        if not 0.05 <= self.interval <= 3600.0:
            raise UsageError(f"--interval must lie within 0.05 to 3600, got {self.interval:g}")

        # Records stay for good: to look through hundreds of thousands of them for cycles, over and
        # over while more are read, takes a fifth of the reading.
        gc.set_threshold(_ALLOCATIONS_A_COLLECTION)

        # Here, not above: --help and a mistyped option answer without loading the server.
        from step_analysis.dashboard.app import Dashboard as Application
        from step_analysis.dashboard.serving import is_loopback, serve

        token = self._token(is_exposed=not is_loopback(self.host))

        def announce(address: str) -> None:
            print(f"Dashboard: {address}", flush=True)
            print("Ctrl-C stops it.", file=sys.stderr, flush=True)
            if self.browser:
                webbrowser.open(address)

        serve(
            Application(
                self.results,
                interval_s=self.interval,
                count_infrastructure=self.count_errors_as_failures,
            ),
            host=self.host,
            port=self.port,
            allowed_hosts=self.allowed_host,
            token=token,
            announce=announce,
        )

    def _token(self, *, is_exposed: bool) -> str | None:
        if self.token_file is not None:
            token = self.token_file.read_text(encoding="utf-8", errors="replace").strip()
            if not _TOKEN.fullmatch(token):
                raise UsageError(
                    f"--token-file {self.token_file}: 16 to 200 letters, digits, '-' and '_' "
                    "expected"
                )
            return token
        return secrets.token_urlsafe(_TOKEN_BYTES) if is_exposed else None
