"""Styles, scripts and fonts: all of this package, none from elsewhere."""

from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from step_analysis.report.page_files import page_script, page_styles
from step_analysis.report.typeface import WEIGHTS, typeface

_HEADERS = {"Cache-Control": "max-age=300"}


def static_routes() -> list[BaseRoute]:
    """A route a file below /assets/."""
    files = {
        "dashboard.css": (_styles, "text/css; charset=utf-8"),
        "page.js": (page_script, "text/javascript; charset=utf-8"),
        "live.js": (lambda: _asset("live.js"), "text/javascript; charset=utf-8"),
        "icon.svg": (lambda: _asset("icon.svg"), "image/svg+xml"),
    }

    def route(name: str) -> Route:
        make, kind = files[name]

        def answer(request: Request) -> Response:
            del request
            return Response(make(), media_type=kind, headers=_HEADERS)

        return Route(f"/assets/{name}", answer)

    return [*map(route, files), Route("/assets/font-{weight}.ttf", _font)]


def _font(request: Request) -> Response:
    weight = next((w for w in WEIGHTS if w == request.path_params["weight"]), None)
    if weight is None:
        return Response(status_code=404)
    return Response(typeface(weight).data, media_type="font/ttf", headers=_HEADERS)


@cache
def _styles() -> str:
    return page_styles(lambda weight: f"/assets/font-{weight}.ttf") + _asset("dashboard.css")


@cache
def _asset(name: str) -> str:
    folder = resources.files("step_analysis.dashboard").joinpath("assets")
    return folder.joinpath(name).read_text(encoding="utf-8")
