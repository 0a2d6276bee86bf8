"""Where a run's numbers go: TensorBoard's files and lines of JSON in the run's folder, and W&B or
Trackio if asked for.

A tracker that fails once the run has begun is told of once and left out from then on: no training
is lost to it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch.utils.tensorboard import SummaryWriter

from trainer.atomic_file import atomic_file
from trainer.configuration_json import configuration_fields
from trainer.metrics_file import MetricsFile
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory

TrackerName = Literal["none", "wandb", "trackio"]

_DEFAULT_PROJECT = "assay"
_LAST_LINE_S = 1.0


def require_tracker(name: TrackerName) -> None:
    """Raises ConfigurationError where its library is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise ConfigurationError(
            f"tracker: {name} is not installed: pip install '.[{name}]' in Assay's checkout, or "
            "leave --tracker out; TensorBoard's files are written anyway"
        )


class MetricSinks:
    """A context manager, of the first rank. step: that from which on what was told is void."""

    def __init__(
        self, config: RunConfig, run: RunDirectory, step: int, tracker: TrackerName = "none"
    ) -> None:
        """Raises ConfigurationError where the tracker cannot be begun with; OSError."""
        self._name, self._tracker = tracker, None
        with ExitStack() as until_begun:
            until_begun.enter_context(_no_tracebacks_of_writers())
            self._file = until_begun.enter_context(closing(MetricsFile(run.metrics, step)))
            self._writer = SummaryWriter(str(run.tensorboard), purge_step=step)
            if tracker != "none":
                self._tracker = _begun(tracker, config, run)
            self._until_end = until_begun.pop_all()

    def add_scalars(self, numbers: dict[str, float], step: int) -> None:
        """All that there is to tell of an optimizer step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._file.add(numbers, step)
        self._track(numbers, step)

    def add_late_scalars(self, numbers: Mapping[str, float], step: int, now: int) -> None:
        """Of an earlier optimizer step than `now`, which a tracker takes nothing of any more.

        They are on the disk when this returns: no resume makes them again.
        """
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        self._file.add(numbers, step)
        self._track({**numbers, "evaluation/optimizer_step": step}, now)

    def add_text(self, name: str, text: str, step: int) -> None:
        self._writer.add_text(name, text, step)

    def add_image(self, name: str, image_HWC: npt.NDArray[np.uint8], step: int) -> None:
        self._writer.add_image(name, image_HWC, step, dataformats="HWC")
        if self._tracker is not None:
            self._track({name: importlib.import_module(self._name).Image(image_HWC)}, step)

    def _track(self, values: dict[str, Any], step: int) -> None:
        if self._tracker is None:
            return
        try:
            self._tracker.log(values, step=step)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
            self._leave(error)

    def _leave(self, error: Exception) -> None:
        reason = str(error).partition("\n")[0]
        print(f"{self._name} is left out from here on: {reason}", file=sys.stderr)
        self._tracker = None

    def __enter__(self) -> MetricSinks:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        with self._until_end:
            self._writer.close()
        if self._tracker is not None:
            try:
                self._tracker.finish()
            except Exception as error:  # noqa: BLE001 - the run's own files are whole
                self._leave(error)


@contextmanager
def _no_tracebacks_of_writers() -> Iterator[None]:
    """TensorBoard's thread that meets a full disk ends with a traceback, though the next number it
    is given raises the error. One line is left of it, for where there is no next number."""
    before, others = threading.excepthook, set(threading.enumerate())

    def tell(raised: threading.ExceptHookArgs) -> None:
        if isinstance(raised.exc_value, OSError) and _is_tensorboards(raised.thread):
            print(f"TensorBoard's file: {raised.exc_value}", file=sys.stderr)
        else:
            before(raised)

    threading.excepthook = tell
    try:
        yield
    finally:
        # One that ends right now has its line still to tell.
        for thread in filter(_is_tensorboards, {*threading.enumerate()} - others):
            thread.join(_LAST_LINE_S)
        threading.excepthook = before


def _is_tensorboards(thread: threading.Thread | None) -> bool:
    return type(thread).__module__.partition(".")[0] == "tensorboard"


def _begun(tracker: TrackerName, config: RunConfig, run: RunDirectory) -> Any:
    """Its run of the same name and number each time that ours goes on."""
    library = importlib.import_module(tracker)
    # A run that was copied and goes on elsewhere is the same run still.
    path = run.root / "tracker_run.txt"
    if not path.exists():
        with atomic_file(path) as file:
            file.write(uuid.uuid4().hex.encode())
    number = path.read_text().strip()
    words: dict[str, Any] = {"project": _DEFAULT_PROJECT, "config": configuration_fields(config)}
    if tracker == "wandb":
        words |= {"id": number, "name": f"{config.name}/{run.root.name}", "dir": str(run.root)}
        # That of a run that goes on may have changed.
        words |= {"allow_val_change": True}
    else:
        words |= {"name": f"{config.name}-{run.root.name}-{number[:8]}"}
    try:
        return library.init(resume="allow", **words)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"tracker: {tracker} cannot begin: {reason}") from error
