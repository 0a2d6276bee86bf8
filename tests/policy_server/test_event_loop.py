"""The loop that the server runs on leaves the process as it was."""

import asyncio
import signal

from policy_server import event_loop


def test_signals_are_handled_as_before_when_it_ends() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    async def handle() -> None:
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, lambda: None)

    event_loop.run(handle())
    assert [signal.getsignal(number) for number in numbers] == before
