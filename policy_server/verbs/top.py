"""`policy-server top`."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from policy_interface.usage import UsageError
from policy_server.activity import Activity, Watch
from policy_server.address import split_address
from policy_server.metrics_page import MetricsUnavailableError, read_page
from policy_server.terminal_view import Screen

# Looks that a page of the present covers: a second's steps are too few for their 99th percentile.
_NUM_LOOKS = 10


@dataclass(frozen=True, kw_only=True)
class Top:
    """Watch a running server: steps, latencies, batches, refusals. Ctrl-C ends it.

    Example: policy-server top --metrics-address 127.0.0.1:9464

    The server must have been started with the same --metrics-address. What it shows first covers
    the server's life, then the last ten looks.
    """

    metrics_address: str = "127.0.0.1:9464"
    """HOST:PORT of the server's metrics."""
    once: bool = False
    """Look once, at all of the server's life, and end."""
    json: bool = False
    """Print JSON, an object a line for each look."""
    interval: float = 1.0
    """Seconds from one look to the next."""

    def run(self) -> int:
        """Look until interrupted; the exit code."""
        split_address(self.metrics_address)
        if not 0 < self.interval <= threading.TIMEOUT_MAX:
            raise UsageError(f"--interval: expected seconds, more than 0, got {self.interval}")
        screen = Screen(sys.stdout)
        watch = Watch(num_looks=_NUM_LOOKS)
        never = threading.Event()
        try:
            while True:
                self._show(watch.look(read_page(self.metrics_address)), screen)
                if self.once:
                    return 0
                never.wait(self.interval)
        except MetricsUnavailableError as error:
            print(f"policy-server: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:
            # Whoever read this, such as `head`, has enough; the interpreter must not flush to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def _show(self, shown: Activity, screen: Screen) -> None:
        if self.json:
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            event = {"time": time, "address": self.metrics_address, **shown.to_json()}
            print(json.dumps(event, allow_nan=False), flush=True)
            return
        screen.show(shown, address=self.metrics_address)
