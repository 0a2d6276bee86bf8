"""How far a run of episodes is: a bar on a terminal; elsewhere a plain line now and then."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm


class ProgressBar:
    """state: what stands behind the bar at first."""

    def __init__(self, total: int, done: int, *, unit: str, state: str) -> None:
        self._total, self._done, self._unit, self._state = total, done, unit, state
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        self._bar = tqdm(
            total=self._total,
            initial=self._done,
            unit=self._unit,
            disable=None,
            dynamic_ncols=True,
        )
        self._bar.set_postfix_str(self._state)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, state: str, *, plain_line: str | None) -> None:
        """One more is done. plain_line: said where there is no bar; None for nothing this time."""
        if self._bar is None or self._bar.disable:
            if plain_line is not None:
                self.say(plain_line)
        else:
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.update()

    def say(self, line: str) -> None:
        """Above the bar."""
        tqdm.write(line, file=sys.stderr)


def told_of_error(what: str, message: str | None, *, will_retry: bool) -> str:
    """An attempt that ended without a verdict. what: which episode."""
    then = "it will be run again" if will_retry else "no attempt is left in this run"
    return f"{what}: error, no verdict, {then}: {message}"
