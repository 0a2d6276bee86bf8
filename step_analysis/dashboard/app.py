"""The dashboard's web application: who answers what, and word of what is new.

It is served before the numerics are imported, which takes longer than the rest of the start; the
answers that need them wait, and the first page does not.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from step_analysis.dashboard.document import error_page, opening_page
from step_analysis.dashboard.guard import Guard
from step_analysis.dashboard.refusal import NotShownError
from step_analysis.dashboard.static_files import static_routes

if TYPE_CHECKING:
    from step_analysis.dashboard.answers import Answers
    from step_analysis.dashboard.snapshot import Snapshot

MAX_LISTENERS = 64
"""Pages kept up to date at once; more are answered, and stay as they are."""
_FIRST_PAGE = "/overview"
_HEARTBEAT_S = 15.0
_LONGEST_PAUSE_S = 3.0
"""Between two looks at a folder that takes long to look at."""


class Dashboard:
    """What the requests share: the answers, and who hears that they have changed.

    Args:
        interval_s: from one look at the folder to the next, or longer where a look takes long.
    """

    def __init__(
        self, root: Path, *, interval_s: float = 1.0, count_infrastructure: bool = False
    ) -> None:
        self.root = root.absolute()
        self.on_failure: Callable[[], None] = lambda: None
        """Called where the folder can't be looked at (any more); `failure` then says why."""
        self._count_infrastructure = count_infrastructure
        self._interval_s = interval_s
        self._answers: Future[Answers] = Future()
        self._failure: Exception | None = None
        self._num_done = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="folder", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[asyncio.Event] = set()

    @property
    def is_open(self) -> bool:
        """Whether answers can be made; those that are asked for before wait."""
        return self._answers.done()

    @property
    def answers(self) -> "Answers":
        """Waits for them. Raises what `failure` is where they can't be made."""
        return self._answers.result()

    @property
    def failure(self) -> Exception | None:
        """Why the folder is not looked at (any more); ImportError where numerics are missing."""
        return self._failure

    @property
    def state(self) -> str:
        """Changes with the snapshot, and as a comparison is done."""
        version = self.answers.snapshot.version if self._has_answers else 0
        return f"{version} {self._num_done}"

    @property
    def _has_answers(self) -> bool:
        return self._answers.done() and self._answers.exception() is None

    @contextlib.asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Watch the folder while the application serves."""
        del app
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Look no more, and end the streams of states."""
        self._stopped.set()
        if self._has_answers:
            self.answers.close()
        self._wake()

    async def states(self) -> AsyncIterator[str]:
        """The state now and after each change, as server-sent events."""
        heard = asyncio.Event()
        self._listeners.add(heard)
        try:
            last = None
            while not self._stopped.is_set():
                heard.clear()
                state = self.state
                yield f"event: state\ndata: {state}\n\n" if state != last else ": still here\n\n"
                last = state
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), _HEARTBEAT_S)
        finally:
            self._listeners.discard(heard)

    @property
    def num_listeners(self) -> int:
        return len(self._listeners)

    def _watch(self) -> None:
        try:
            self._look_until_stopped()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised by serve()
            # Pages that wait for a thread that is gone would wait for good.
            self._failure = error
            if not self._answers.done():
                self._answers.set_exception(error)
            self.on_failure()

    def _look_until_stopped(self) -> None:
        # What is imported only as it is used; without it some answers could not be made.
        for name in ("scipy", "PIL"):
            if find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        # Here, not above: the address is there, and the first page, while this is imported.
        from step_analysis.dashboard.answers import Answers
        from step_analysis.dashboard.folder import ResultsFolder

        answers = Answers(self.root, on_done=self._tell)
        self._answers.set_result(answers)

        def show(snapshot: "Snapshot") -> None:
            answers.snapshot = snapshot
            self._tell()

        folder = ResultsFolder(
            root=self.root, publish=show, count_infrastructure=self._count_infrastructure
        )
        while not self._stopped.is_set():
            began = time.monotonic()
            folder.look()
            took_s = time.monotonic() - began
            # A folder of many thousand files must not keep a processor busy.
            self._stopped.wait(max(self._interval_s, min(2.0 * took_s, _LONGEST_PAUSE_S)))

    def _tell(self) -> None:
        self._num_done += 1
        if self._loop is not None:
            # The loop may have ended meanwhile; then nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for heard in self._listeners:
            heard.set()


def application(
    dashboard: Dashboard, *, hosts: Iterable[str] = (), token: str | None = None
) -> Starlette:
    """The web application. `hosts` and `token` are the guard's."""
    door = _Door(dashboard)
    return Starlette(
        routes=[
            Route("/", lambda request: RedirectResponse(_FIRST_PAGE)),
            Route("/events", door.events),
            Route("/video", lambda request: dashboard.answers.video(request)),
            Route("/health", lambda request: dashboard.answers.health(request)),
            Route("/data/{view}.json", lambda request: dashboard.answers.json(request)),
            Route("/data/{view}/{table}.csv", lambda request: dashboard.answers.csv(request)),
            Route(
                "/figure/{view}/{figure}.{suffix}",
                lambda request: dashboard.answers.figure(request),
            ),
            *static_routes(),
            Route("/{view}", door.page),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        lifespan=dashboard.running,
        exception_handlers={
            NotShownError: _explain,
            404: _explain,
        },
    )


def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, NotShownError):
        return HTMLResponse(error_page(str(error)), status_code=error.status)
    return HTMLResponse(error_page(f"{request.url.path}: no such page"), status_code=404)


class _Door:
    """What is answered before there are answers. A plain function runs in a thread and may wait."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def page(self, request: Request) -> Response:
        if not self._dashboard.is_open and _is_first(request):
            return HTMLResponse(opening_page(self._dashboard.root))
        return self._dashboard.answers.page(request)

    async def events(self, request: Request) -> Response:
        del request
        if self._dashboard.num_listeners >= MAX_LISTENERS:
            return PlainTextResponse("too many pages are open; reload later\n", status_code=503)
        return StreamingResponse(
            self._dashboard.states(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _is_first(request: Request) -> bool:
    """Whether it is the page that one opens, as a whole and without filters to check."""
    asked = request.scope
    is_whole = "x-part" not in request.headers
    return asked["path"] == _FIRST_PAGE and not asked["query_string"] and is_whole
