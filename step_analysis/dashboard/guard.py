"""Who may ask the dashboard, and what its answers allow a browser to do."""

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_NAME = "token"  # noqa: S105 - the name, not the secret
COOKIE_NAME = "step-analysis-token"
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Nothing but the dashboard's own files; style attributes place the figures' marks.
_RULES = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; "
    "media-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _RULES,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses what is not a reader's request, before anything else sees it.

    Args:
        hosts: names under which the dashboard is served; a page of another site that is resolved
            to this machine (DNS rebinding) names another.
        token: what a request must carry, as a cookie, a bearer token or once in the address; None
            where only this machine reaches the dashboard.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], token: str | None) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts) | _LOOPBACK_NAMES
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._is_known_host(headers.get("host", "")):
            return PlainTextResponse(
                "this name is not the dashboard's; --allowed-host adds it\n", status_code=421
            )
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse(
                "the dashboard only reads: GET\n", status_code=405, headers={"Allow": "GET, HEAD"}
            )
        return None if self._token is None else self._ask_for_token(scope, headers, self._token)

    def _is_known_host(self, host: str) -> bool:
        name = _without_port(host).lower()
        if name in self._hosts:
            return True
        # No resolver turns one address into another, so with a token an address is enough.
        return self._token is not None and _is_address(name)

    def _ask_for_token(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE_NAME, "")
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else cookie
        if _equal(given, token):
            return None
        pairs = parse_qsl(scope["query_string"].decode("latin-1"))
        in_address = [value for name, value in pairs if name == TOKEN_NAME]
        if in_address and _equal(in_address[-1], token):
            # The address without it is what a reader copies and what history keeps.
            rest = urlencode([pair for pair in pairs if pair[0] != TOKEN_NAME])
            path = "/" + scope["path"].lstrip("/")
            answer = RedirectResponse(f"{path}?{rest}" if rest else path, status_code=303)
            answer.set_cookie(COOKIE_NAME, token, httponly=True, samesite="strict")
            return answer
        return PlainTextResponse(
            "a token is needed: open the address that step-analysis dashboard printed\n",
            status_code=401,
            headers={"WWW-Authenticate": "Bearer"},
        )


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode("utf-8"))


def _without_port(host: str) -> str:
    """'[::1]:8000' is '::1', 'localhost:8000' is 'localhost'."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
