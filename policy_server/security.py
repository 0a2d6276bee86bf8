"""Who may call: TLS, bearer tokens from a file, and by what name a client is known."""

from __future__ import annotations

import contextvars
import hashlib
import hmac
import logging
import re
import ssl
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc

from policy_interface.client_errors import ERROR_DETAIL_KEY
from policy_interface.generated.assay_policy_interface import PolicySession_pb2

logger = logging.getLogger(__name__)

# Containers are asked for their health by those who know no token; it tells nothing else.
_OPEN_TO_ALL = "/grpc.health.v1.Health/"

_HEADER = "authorization"
_SCHEME = "Bearer "

# 16 characters of base64 are 96 bits: not to be found by trying.
_MIN_TOKEN_CHARACTERS = 16
# RFC 6750's b64token, and a name before a colon, which no token contains.
_TOKEN_LINE = re.compile(r"(?:(?P<name>[\w.@ -]+):)?\s*(?P<token>[A-Za-z0-9._~+/-]+=*)", re.ASCII)

_token_name: contextvars.ContextVar[str | None] = contextvars.ContextVar("token_name", default=None)


class SecurityError(ValueError):
    """A certificate, a key or a file of tokens that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class TlsOptions:
    """PEM files. Raises SecurityError where one cannot be used.

    certificate: the server's, followed by those between it and its authority's. key: its own,
    without a passphrase. client_ca: whose certificates clients must show; None asks for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        for name, path in (
            ("certificate", self.certificate),
            ("key", self.key),
            ("client_ca", self.client_ca),
        ):
            if path is not None:
                _read(name, path)
        _warn_if_readable_by_others("key", self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except ssl.SSLError as error:
            raise SecurityError(
                f"certificate {self.certificate} and key {self.key}: expected PEM files of one "
                f"pair: {_reason(error)}"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError as error:
                raise SecurityError(
                    f"client_ca {self.client_ca}: expected certificates as PEM: {_reason(error)}"
                ) from error

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. With client_ca, who shows no certificate of its is refused."""
        return grpc.ssl_server_credentials(
            [(_read("key", self.key), _read("certificate", self.certificate))],
            root_certificates=(
                None if self.client_ca is None else _read("client_ca", self.client_ca)
            ),
            require_client_auth=self.client_ca is not None,
        )


class BearerTokens:
    """The tokens of a file, one a line: TOKEN or NAME:TOKEN; '#' begins a comment.

    Only their digests are kept.
    """

    def __init__(self, path: Path) -> None:
        """Raises SecurityError."""
        self._path = path
        self._names_by_digest = _read_tokens(path)

    def __len__(self) -> int:
        return len(self._names_by_digest)

    def reload(self) -> None:
        """Read the file again. Raises SecurityError, and then keeps to what it had."""
        self._names_by_digest = _read_tokens(self._path)

    def name_of(self, token: str) -> str | None:
        """The token's name, or `line N` where it has none; None for a token that is not ours.

        Takes as long whichever token it is, if any: all are compared, each in constant time.
        """
        digest = _digest(token)
        found = None
        for known, name in self._names_by_digest.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Answers UNAUTHENTICATED to calls without a token of ours, but for grpc.health.v1.

    Such a call is answered before its message is read. A token is looked at when a call begins: a
    stream goes on when its token is taken out of the file.
    """

    def __init__(
        self,
        tokens: BearerTokens,
        *,
        on_refused: Callable[[str, str], None] = lambda method, code_name: None,
    ) -> None:
        """on_refused: told the method's name and the status's, as ServerMetrics.refused."""
        self._tokens = tokens
        self._on_refused = on_refused

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: str = handler_call_details.method  # pyright: ignore[reportAttributeAccessIssue]
        if method.startswith(_OPEN_TO_ALL):
            return await continuation(handler_call_details)
        metadata: Any = handler_call_details.invocation_metadata  # pyright: ignore[reportAttributeAccessIssue]
        name, why_not = self._identify(metadata)
        handler = await continuation(handler_call_details)
        if name is None:
            # A name that is no method's may be anything, and would make a time series of its own.
            known_method = "unknown" if handler is None else method.rpartition("/")[2]
            return self._refusal(known_method, why_not)
        # The call's handler runs in the context that this is set in.
        _token_name.set(name)
        return handler

    def _identify(self, metadata: Any) -> tuple[str | None, str]:
        """The token's name, or why there is none."""
        values = [value for key, value in metadata or () if key == _HEADER]
        if not values:
            return None, f"{_HEADER}: this server expects metadata 'Bearer TOKEN', got none"
        if len(values) > 1 or values[0][: len(_SCHEME)].lower() != _SCHEME.lower():
            return None, f"{_HEADER}: expected 'Bearer TOKEN', once, got something else"
        name = self._tokens.name_of(values[0][len(_SCHEME) :].strip())
        return name, f"{_HEADER}: the token is none of this server's"

    def _refusal(self, method: str, text: str) -> grpc.RpcMethodHandler:
        async def refuse(messages: Any, context: Any) -> NoReturn:
            code = grpc.StatusCode.UNAUTHENTICATED
            self._on_refused(method, code.name)
            logger.warning(
                "refused %s: %s", method, text, extra={"client": context.peer(), "code": code.name}
            )
            detail = PolicySession_pb2.ErrorDetail(
                reason="unauthenticated", field=_HEADER, message=text, retry_after_ms=-1
            )
            await context.abort(code, text, ((ERROR_DETAIL_KEY, detail.SerializeToString()),))
            raise AssertionError("abort raises")

        # On the wire all kinds of calls begin alike, and this kind waits for no message.
        return grpc.stream_stream_rpc_method_handler(refuse)


def client_key(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """By what a client is known, for limits and turns.

    Its token's name; else, where clients show certificates, their common name; else its address and
    port, which is one for each of its connections.
    """
    name = _token_name.get()
    if name is not None:
        return f"token:{name}"
    common_names: Any = context.auth_context().get("x509_common_name")
    if common_names:
        return f"certificate:{common_names[0].decode(errors='replace')}"
    return context.peer()


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(f"{name} {path}: {error.strerror}") from error


def _read_tokens(path: Path) -> dict[bytes, str]:
    data = _read("tokens", path)
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SecurityError(
            f"tokens {path}: others may write to it, and so let themselves in: chmod 600 {path}"
        )
    _warn_if_readable_by_others("tokens", path)
    names_by_digest: dict[bytes, str] = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _TOKEN_LINE.fullmatch(text)
        # None of these may quote the line: it is, or nearly is, a secret.
        if match is None:
            raise SecurityError(
                f"tokens {path}, line {number}: expected TOKEN or NAME:TOKEN, a token of letters, "
                "digits and -._~+/ with = at its end alone"
            )
        token = match["token"]
        if len(token) < _MIN_TOKEN_CHARACTERS:
            raise SecurityError(
                f"tokens {path}, line {number}: expected at least {_MIN_TOKEN_CHARACTERS} "
                f"characters, got {len(token)}; openssl rand -base64 32 makes a token"
            )
        digest = _digest(token)
        if digest in names_by_digest:
            raise SecurityError(f"tokens {path}, line {number}: this token is there twice")
        names_by_digest[digest] = match["name"] or f"line {number}"
    if not names_by_digest:
        raise SecurityError(f"tokens {path}: expected at least one token, got none")
    return names_by_digest


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _warn_if_readable_by_others(name: str, path: Path) -> None:
    # No more than a warning: a container's secrets are readable by all of its users, of whom there
    # is one.
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("%s %s: others may read it; chmod 600 it", name, path)


def _no_passphrase() -> NoReturn:
    # Otherwise OpenSSL would ask the terminal for one.
    raise SecurityError("the key has a passphrase, which gRPC cannot use: openssl pkey removes it")


def _reason(error: ssl.SSLError) -> str:
    reason = (error.reason or "").replace("_", " ").lower()
    return reason or "not PEM"
