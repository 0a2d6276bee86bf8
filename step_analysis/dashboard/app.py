"""The dashboard's web application: pages, exports, films, and word of what is new."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from step_analysis.dashboard.analyses import Analyses, chosen_policies
from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.folder import ResultsFolder
from step_analysis.dashboard.guard import Guard
from step_analysis.dashboard.page import EVENTS_PATH, error_page, live_part, nothing_yet, whole_page
from step_analysis.dashboard.query import Query, QueryError
from step_analysis.dashboard.snapshot import Snapshot
from step_analysis.dashboard.static_files import static_routes
from step_analysis.dashboard.videos import find_video
from step_analysis.dashboard.views import VIEWS
from step_analysis.dashboard.views.material import Material
from step_analysis.report.palette import Scheme
from step_analysis.report.pdf import pdf_file
from step_analysis.report.png import png_file
from step_analysis.report.svg import svg_file

MAX_LISTENERS = 64
"""Pages kept up to date at once; more are answered, and stay as they are."""
_HEARTBEAT_S = 15.0
_LONGEST_PAUSE_S = 3.0
"""Between two looks at a folder that takes long to look at."""
_LONGEST_QUERY = 32_768


class Dashboard:
    """What the requests share: the newest snapshot and the comparisons of it.

    Args:
        interval_s: from one look at the folder to the next, or longer where a look takes long.
    """

    def __init__(
        self, root: Path, *, interval_s: float = 1.0, count_infrastructure: bool = False
    ) -> None:
        self.snapshot = Snapshot(root=root.absolute())
        self.analyses = Analyses(on_done=self._tell)
        self._folder = ResultsFolder(
            root=root, publish=self._show, count_infrastructure=count_infrastructure
        )
        self._interval_s = interval_s
        self._num_done = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="folder", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[asyncio.Event] = set()

    @property
    def state(self) -> str:
        """Changes with the snapshot, and as a comparison is done."""
        return f"{self.snapshot.version} {self._num_done}"

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
        self.analyses.close()
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

        while not self._stopped.is_set():
            began = time.monotonic()
            self._folder.look()
            took_s = time.monotonic() - began
            # A folder of many thousand files must not keep a processor busy.
            self._stopped.wait(max(self._interval_s, min(2.0 * took_s, _LONGEST_PAUSE_S)))

    def _show(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._tell()

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
    pages = _Pages(dashboard)
    return Starlette(
        routes=[
            Route("/", lambda request: RedirectResponse("/overview")),
            Route(EVENTS_PATH, pages.events),
            Route("/video", pages.video),
            Route("/health", pages.health),
            Route("/data/{view}.json", pages.json),
            Route("/data/{view}/{table}.csv", pages.csv),
            Route("/figure/{view}/{figure}.{suffix}", pages.figure),
            *static_routes(),
            Route("/{view}", pages.page),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        lifespan=dashboard.running,
        exception_handlers={
            QueryError: partial(_explain, 400),
            _NotFoundError: partial(_explain, 404),
            404: partial(_explain, 404),
        },
    )


class _NotFoundError(Exception):
    """There is no such page, figure or film; the text says which."""


def _explain(status: int, request: Request, error: Exception) -> Response:
    known = isinstance(error, (QueryError, _NotFoundError))
    message = str(error) if known else f"{request.url.path}: no such page"
    return HTMLResponse(error_page(message), status_code=status)


class _Pages:
    """The answers. Those that calculate are plain functions, which run in threads."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def page(self, request: Request) -> Response:
        material, canvas = self._drawn(request)
        if request.headers.get("x-part") == "live":
            return HTMLResponse(live_part(material, canvas))
        return HTMLResponse(whole_page(material, canvas))

    def json(self, request: Request) -> Response:
        material, canvas = self._drawn(request)
        analysis = material.analysis
        return JSONResponse(
            {
                "view": canvas.view,
                "folder_version": material.snapshot.version,
                "condition": material.condition,
                "query": asdict(material.query),
                "has_verdicts": analysis is not None and analysis.has_verdicts,
                "tables": {name: t.to_json_value() for name, t in canvas.tables.items()},
            }
        )

    def csv(self, request: Request) -> Response:
        _, canvas = self._drawn(request)
        name = request.path_params["table"]
        if name not in canvas.tables:
            raise _NotFoundError(_named("table", name, canvas.tables))
        return Response(
            canvas.tables[name].to_csv(),
            media_type="text/csv; charset=utf-8",
            headers=_as_file(f"{canvas.view}-{name}.csv"),
        )

    def figure(self, request: Request) -> Response:
        name, suffix = request.path_params["figure"], request.path_params["suffix"]
        theme: Scheme = "dark" if request.query_params.get("theme") == "dark" else "light"
        _, canvas = self._drawn(request)
        if name not in canvas.figures:
            raise _NotFoundError(_named("figure", name, canvas.figures))
        figure = canvas.figures[name]
        if suffix == "svg":
            content: str | bytes = svg_file(figure.wide, theme, figure.description)
        elif suffix == "png":
            content = png_file(figure.wide, theme)
        elif suffix == "pdf":
            content = pdf_file(figure.wide, theme, figure.description)
        else:
            raise _NotFoundError(f"figures are svg, png or pdf, not {suffix[:20]!r}")
        kinds = {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf"}
        return Response(
            content, media_type=kinds[suffix], headers=_as_file(f"{canvas.view}-{name}.{suffix}")
        )

    def video(self, request: Request) -> Response:
        """A film, by what it shows: no path comes from the address."""
        asked = request.query_params
        snapshot = self._dashboard.snapshot
        condition = asked.get("condition", "")
        policies = snapshot.conditions.get(condition, ())
        policy = next((p for p in policies if p.policy == asked.get("policy")), None)
        task = policy.tasks.get(asked.get("task", "")) if policy else None
        scenario = asked.get("scenario", "")
        if task is not None and scenario.isascii() and scenario.isdecimal():
            index = int(scenario[:20])
            found = find_video(snapshot.root, task, index) if index in task.outcomes else None
            if found is not None:
                return FileResponse(found, media_type="video/mp4")
        raise _NotFoundError("this episode was not filmed: sim-client evaluate --video films them")

    async def events(self, request: Request) -> Response:
        del request
        if self._dashboard.num_listeners >= MAX_LISTENERS:
            return PlainTextResponse("too many pages are open; reload later\n", status_code=503)
        return StreamingResponse(
            self._dashboard.states(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    def health(self, request: Request) -> Response:
        """Whether the folder is read."""
        del request
        snapshot = self._dashboard.snapshot
        return JSONResponse(
            {
                "is_complete": snapshot.is_complete,
                "version": snapshot.version,
                "num_files": snapshot.num_files,
                "num_files_read": snapshot.num_files_read,
            }
        )

    def _drawn(self, request: Request) -> tuple[Material, Canvas]:
        name = request.path_params["view"]
        if name not in VIEWS:
            raise _NotFoundError(_named("view", name, VIEWS))
        raw = request.scope["query_string"].decode("latin-1")
        if len(raw) > _LONGEST_QUERY:
            raise QueryError(f"the address is longer than {_LONGEST_QUERY} characters")
        pairs = [pair for pair in parse_qsl(raw) if pair[0] != "theme"]
        query = Query.parse(pairs)
        snapshot = self._dashboard.snapshot
        condition = query.condition or next(iter(snapshot.conditions), "")
        try:
            analysis = self._dashboard.analyses.get(snapshot, query, condition)
        except ValueError as error:
            raise QueryError(str(error)) from error
        material = Material(
            snapshot=snapshot,
            query=query,
            condition=condition,
            policies=chosen_policies(snapshot, query, condition),
            analysis=analysis,
        )
        canvas = Canvas(name, query, snapshot.policy_indices)
        if analysis is None and VIEWS[name].needs_policies:
            canvas.put(nothing_yet(snapshot))
        else:
            VIEWS[name].draw(material, canvas)
        return material, canvas


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'inline; filename="{name}"'}


def _named(what: str, name: str, known: Iterable[str]) -> str:
    return f"no {what} {name[:60]!r} here; there is {', '.join(known)}"
