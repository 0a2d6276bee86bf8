"""The dashboard's answers: pages, exports and films, worked out of what is in the folder."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from step_analysis.dashboard.analyses import Analyses, chosen_policies
from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.page import live_part, nothing_yet, whole_page
from step_analysis.dashboard.query import Query
from step_analysis.dashboard.refusal import NotShownError
from step_analysis.dashboard.snapshot import Snapshot
from step_analysis.dashboard.videos import find_video
from step_analysis.dashboard.views import VIEWS
from step_analysis.dashboard.views.material import Material
from step_analysis.report.palette import Scheme
from step_analysis.report.svg import svg_file

_LONGEST_QUERY = 32_768


class Answers:
    """The answers to requests: plain functions, which run in threads.

    Args:
        on_done: called as a comparison is finished.
    """

    def __init__(self, root: Path, *, on_done: Callable[[], None]) -> None:
        self.snapshot = Snapshot(root=root)
        """The newest: set anew as the folder changes."""
        self._analyses = Analyses(on_done=on_done)

    def close(self) -> None:
        """Work out nothing more."""
        self._analyses.close()

    def page(self, request: Request) -> Response:
        """A view as a page, or the part of it that changes."""
        material, canvas = self._drawn(request)
        if request.headers.get("x-part") == "live":
            return HTMLResponse(live_part(material, canvas))
        return HTMLResponse(whole_page(material, canvas))

    def json(self, request: Request) -> Response:
        """A view's tables."""
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
        """One of a view's tables."""
        _, canvas = self._drawn(request)
        name = request.path_params["table"]
        if name not in canvas.tables:
            raise NotShownError(_named("table", name, canvas.tables))
        return Response(
            canvas.tables[name].to_csv(),
            media_type="text/csv; charset=utf-8",
            headers=_as_file(f"{canvas.view}-{name}.csv"),
        )

    def figure(self, request: Request) -> Response:
        """One of a view's figures, as a file."""
        name, suffix = request.path_params["figure"], request.path_params["suffix"]
        theme: Scheme = "dark" if request.query_params.get("theme") == "dark" else "light"
        _, canvas = self._drawn(request)
        if name not in canvas.figures:
            raise NotShownError(_named("figure", name, canvas.figures))
        figure = canvas.figures[name]
        if suffix == "svg":
            content: str | bytes = svg_file(figure.wide, theme, figure.description)
        elif suffix == "png":
            # Here, not above: no page needs Pillow, whose import would hold up the first one.
            from step_analysis.report.png import png_file

            content = png_file(figure.wide, theme)
        elif suffix == "pdf":
            from step_analysis.report.pdf import pdf_file

            content = pdf_file(figure.wide, theme, figure.description)
        else:
            raise NotShownError(f"figures are svg, png or pdf, not {suffix[:20]!r}")
        kinds = {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf"}
        return Response(
            content, media_type=kinds[suffix], headers=_as_file(f"{canvas.view}-{name}.{suffix}")
        )

    def video(self, request: Request) -> Response:
        """A film, by what it shows: no path comes from the address."""
        asked = request.query_params
        snapshot = self.snapshot
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
        raise NotShownError("this episode was not filmed: sim-client evaluate --video films them")

    def health(self, request: Request) -> Response:
        """Whether the folder is read."""
        del request
        snapshot = self.snapshot
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
            raise NotShownError(_named("view", name, VIEWS))
        raw = request.scope["query_string"].decode("latin-1")
        if len(raw) > _LONGEST_QUERY:
            raise NotShownError(
                f"the address is longer than {_LONGEST_QUERY} characters", status=400
            )
        pairs = [pair for pair in parse_qsl(raw) if pair[0] != "theme"]
        snapshot = self.snapshot
        try:
            query = Query.parse(pairs)
            condition = query.condition or next(iter(snapshot.conditions), "")
            analysis = self._analyses.get(snapshot, query, condition)
        # A QueryError, or a design for which the chosen test can't be made.
        except ValueError as error:
            raise NotShownError(str(error), status=400) from error
        material = Material(
            snapshot=snapshot,
            query=query,
            condition=condition,
            policies=chosen_policies(snapshot, query, condition),
            analysis=analysis,
        )
        canvas = Canvas(name, query, snapshot.policy_indices)
        try:
            if analysis is None and VIEWS[name].needs_policies:
                canvas.put(nothing_yet(snapshot))
            else:
                VIEWS[name].draw(material, canvas)
        finally:
            # Also where it could not be drawn, or what was put off would pile up.
            self._analyses.begin()
        return material, canvas


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'inline; filename="{name}"'}


def _named(what: str, name: str, known: Iterable[str]) -> str:
    return f"no {what} {name[:60]!r} here; there is {', '.join(known)}"
