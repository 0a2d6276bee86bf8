"""Real handshakes on loopback: who gets in, who does not, and what those are told."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from policy_interface.client import PolicyClient
from policy_interface.client_errors import NotAuthorizedError
from policy_interface.client_options import ClientCredentials
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_server.health import HealthService
from policy_server.scripted_policies import HoldPolicy
from policy_server.security import (
    BearerTokens,
    SecurityError,
    TlsOptions,
    TokenInterceptor,
    client_key,
)
from policy_server.server import ServerOptions
from policy_server.testing import running_server

_DATA = Path(__file__).parent / "data"
_PATIENCE_S = 30.0
_TOKEN = base64.b64encode(b"for tests alone.").decode()
_OTHER_TOKEN = base64.b64encode(b"not this one, no").decode()
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class _WhoAmI:
    """Every kind of call, each answered with the name by which its client is known."""

    def handlers(self) -> grpc.GenericRpcHandler:
        async def unary(request: Any, context: Any) -> bytes:
            return client_key(context).encode()

        async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
            yield client_key(context).encode()

        return grpc.method_handlers_generic_handler(
            "tests.WhoAmI",
            {
                "unary_unary": grpc.unary_unary_rpc_method_handler(unary),
                "unary_stream": grpc.unary_stream_rpc_method_handler(stream),
                "stream_unary": grpc.stream_unary_rpc_method_handler(unary),
                "stream_stream": grpc.stream_stream_rpc_method_handler(stream),
            },
        )


@contextmanager
def _serving(
    *, tls: TlsOptions | None = None, interceptor: TokenInterceptor | None = None
) -> Iterator[str]:
    """The port's address, while a server listens there on an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(interceptors=[] if interceptor is None else [interceptor])
        server.add_generic_rpc_handlers((_WhoAmI().handlers(),))
        health = HealthService(["tests.WhoAmI"])
        health.set_serving()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        if tls is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", tls.credentials())
        await server.start()
        return server, port

    def finish(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_PATIENCE_S)

    server, port = finish(start())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        finish(server.stop(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE_S)
        loop.close()


def _ask(
    channel: grpc.Channel,
    kind: str = "unary_unary",
    *,
    authorization: str | bytes | None = None,
    request: bytes = b"",
) -> str:
    """Who the server takes us for. Raises grpc.RpcError."""
    metadata = () if authorization is None else (("authorization", authorization),)
    call = getattr(channel, kind)(f"/tests.WhoAmI/{kind}")
    argument = iter([request]) if kind.startswith("stream") else request
    answer = call(argument, metadata=metadata, timeout=_PATIENCE_S)
    if kind.endswith("stream"):
        (answer,) = answer
    return answer.decode()


def _refusal(ask: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as refused:
        ask()
    return refused.value


def _channel(address: str, *, authority: bool = True, identity: str | None = None) -> grpc.Channel:
    def read(name: str) -> bytes:
        return (_DATA / name).read_bytes()

    return grpc.secure_channel(
        address,
        grpc.ssl_channel_credentials(
            root_certificates=read("authority.pem") if authority else None,
            private_key=None if identity is None else read(f"{identity}.key"),
            certificate_chain=None if identity is None else read(f"{identity}.pem"),
        ),
    )


def _tls(*, client_ca: bool = False) -> TlsOptions:
    return TlsOptions(
        certificate=_DATA / "server.pem",
        key=_DATA / "server.key",
        client_ca=_DATA / "authority.pem" if client_ca else None,
    )


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(mode=0o600)
    path.write_text(f"# the lab's\nrobot 7: {_TOKEN}\n")
    return path


@pytest.mark.parametrize("kind", _KINDS)
def test_who_shows_a_token_is_known_by_its_name(token_file, kind) -> None:
    interceptor = TokenInterceptor(BearerTokens(token_file))
    with _serving(interceptor=interceptor) as address, grpc.insecure_channel(address) as channel:
        assert _ask(channel, kind, authorization=f"Bearer {_TOKEN}") == "token:robot 7"


@pytest.mark.parametrize("kind", [*_KINDS, "no_such_method"])
@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        (None, "expects metadata 'Bearer TOKEN', got none"),
        (f"Bearer {_OTHER_TOKEN}", "none of this server's"),
        (f"Bearer {_TOKEN[:-3]}", "none of this server's"),
        ("Bearer", "expected 'Bearer TOKEN'"),
        ("Bearer ", "none of this server's"),
        (f"Basic {_TOKEN}", "expected 'Bearer TOKEN'"),
        (_TOKEN, "expected 'Bearer TOKEN'"),
    ],
)
def test_who_shows_none_of_ours_is_told_so(token_file, kind, authorization, said) -> None:
    refusals: list[tuple[str, str]] = []
    interceptor = TokenInterceptor(
        BearerTokens(token_file), on_refused=lambda *refusal: refusals.append(refusal)
    )
    with _serving(interceptor=interceptor) as address, grpc.insecure_channel(address) as channel:
        if kind == "no_such_method":
            call = channel.unary_unary(f"/tests.WhoAmI/{kind}")
            metadata = () if authorization is None else (("authorization", authorization),)
            error = _refusal(lambda: call(b"", metadata=metadata, timeout=_PATIENCE_S))
        else:
            error = _refusal(lambda: _ask(channel, kind, authorization=authorization))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert said in error.details()
    assert _TOKEN[:8] not in error.details()
    (detail,) = (
        PolicySession_pb2.ErrorDetail.FromString(value)
        for key, value in error.trailing_metadata()
        if key == "assay-error-bin"
    )
    assert (detail.reason, detail.field) == ("unauthenticated", "authorization")
    assert detail.retry_after_ms == -1
    # What a stranger calls must not become a time series.
    expected = "unknown" if kind == "no_such_method" else kind
    assert refusals == [(expected, "UNAUTHENTICATED")]


def test_a_large_message_without_a_token_is_refused_like_any(token_file) -> None:
    interceptor = TokenInterceptor(BearerTokens(token_file))
    with _serving(interceptor=interceptor) as address, grpc.insecure_channel(address) as channel:
        error = _refusal(lambda: _ask(channel, request=bytes(30_000_000)))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        assert _ask(channel, authorization=f"bearer {_TOKEN}") == "token:robot 7"


def test_two_tokens_in_one_call_are_none(token_file) -> None:
    interceptor = TokenInterceptor(BearerTokens(token_file))
    with _serving(interceptor=interceptor) as address, grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/tests.WhoAmI/unary_unary")
        metadata = (("authorization", f"Bearer {_TOKEN}"),) * 2
        error = _refusal(lambda: call(b"", metadata=metadata, timeout=_PATIENCE_S))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


def test_health_needs_no_token(token_file) -> None:
    interceptor = TokenInterceptor(BearerTokens(token_file))
    with _serving(interceptor=interceptor) as address, grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_a_call_is_not_known_by_the_token_of_the_one_before(token_file) -> None:
    token_file.write_text(f"{_TOKEN}\nb:{_OTHER_TOKEN}\n")
    interceptor = TokenInterceptor(BearerTokens(token_file))
    with _serving(interceptor=interceptor) as address, grpc.insecure_channel(address) as channel:
        assert _ask(channel, authorization=f"Bearer {_TOKEN}") == "token:line 1"
        assert _ask(channel, authorization=f"Bearer {_OTHER_TOKEN}") == "token:b"
        assert _refusal(lambda: _ask(channel)).code() == grpc.StatusCode.UNAUTHENTICATED


def test_tokens_are_read_again_when_told(token_file) -> None:
    tokens = BearerTokens(token_file)
    interceptor = TokenInterceptor(tokens)
    with _serving(interceptor=interceptor) as address, grpc.insecure_channel(address) as channel:
        token_file.write_text(f"new:{_OTHER_TOKEN}\n")
        assert _ask(channel, authorization=f"Bearer {_TOKEN}") == "token:robot 7"
        tokens.reload()
        assert _ask(channel, authorization=f"Bearer {_OTHER_TOKEN}") == "token:new"
        assert _refusal(lambda: _ask(channel, authorization=f"Bearer {_TOKEN}"))
        # A file that is none keeps everybody in rather than nobody.
        token_file.write_text("short\n")
        with pytest.raises(SecurityError):
            tokens.reload()
        assert _ask(channel, authorization=f"Bearer {_OTHER_TOKEN}") == "token:new"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected at least one token, got none"),
        ("# only a comment\n\n", "expected at least one token, got none"),
        ("a:short\n", "line 1: expected at least 16 characters, got 5"),
        (f"{_TOKEN}\nb:{_TOKEN}\n", "line 2: this token is there twice"),
        (f"\n{_TOKEN} {_OTHER_TOKEN}\n", "line 2: expected TOKEN or NAME:TOKEN"),
        (f"=={_TOKEN}\n", "line 1: expected TOKEN or NAME:TOKEN"),
        ("pässwörter-sind-lang-genug\n", "line 1: expected TOKEN or NAME:TOKEN"),
    ],
)
def test_a_token_file_that_is_none_is_refused_without_quoting_it(token_file, text, said) -> None:
    token_file.write_text(text)
    with pytest.raises(SecurityError, match=said) as refused:
        BearerTokens(token_file)
    assert _TOKEN not in str(refused.value)
    assert str(token_file) in str(refused.value)


def test_a_token_file_is_nobody_elses_to_write_and_better_not_to_read(token_file, caplog) -> None:
    token_file.chmod(0o620)
    with pytest.raises(SecurityError, match="others may write to it"):
        BearerTokens(token_file)
    token_file.chmod(0o640)
    with caplog.at_level(logging.WARNING):
        BearerTokens(token_file)
    assert "others may read it" in caplog.text
    caplog.clear()
    token_file.chmod(0o600)
    BearerTokens(token_file)
    assert caplog.text == ""
    with pytest.raises(SecurityError, match="No such file"):
        BearerTokens(token_file.with_name("none"))


def test_a_client_that_trusts_the_servers_certificate_gets_in() -> None:
    with _serving(tls=_tls()) as address:
        with _channel(address) as channel:
            assert _ask(channel).startswith("ipv4:127.0.0.1:")
        # And the server is not disturbed by those that do not.
        with _channel(address, authority=False) as channel:
            error = _refusal(lambda: _ask(channel))
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            assert "certificate" in error.details().lower()
        with _channel(address) as channel:
            assert _ask(channel)


def test_a_plaintext_client_on_a_tls_port_is_refused() -> None:
    with _serving(tls=_tls()) as address, grpc.insecure_channel(address) as channel:
        error = _refusal(lambda: _ask(channel))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert error.details()


def test_a_tls_client_on_a_plaintext_port_is_refused() -> None:
    with _serving() as address, _channel(address) as channel:
        error = _refusal(lambda: _ask(channel))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "ssl" in error.details().lower()


def test_mutual_tls_lets_in_its_authoritys_clients_alone() -> None:
    with _serving(tls=_tls(client_ca=True)) as address:
        with _channel(address, identity="client") as channel:
            assert _ask(channel) == "certificate:robot-7"
        for identity in (None, "stranger"):
            with _channel(address, identity=identity) as channel:
                error = _refusal(lambda channel=channel: _ask(channel))
                assert error.code() == grpc.StatusCode.UNAVAILABLE
                assert error.details()


def test_a_token_is_the_better_name(token_file) -> None:
    interceptor = TokenInterceptor(BearerTokens(token_file))
    with (
        _serving(tls=_tls(client_ca=True), interceptor=interceptor) as address,
        _channel(address, identity="client") as channel,
    ):
        assert _ask(channel, authorization=f"Bearer {_TOKEN}") == "token:robot 7"
        assert _refusal(lambda: _ask(channel)).code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_policy_server_asks_for_both_and_counts_who_lacks_one(
    token_file, make_observation
) -> None:
    options = ServerOptions(
        address="127.0.0.1:0",
        tls=_tls(client_ca=True),
        tokens=BearerTokens(token_file),
    )
    shown = ClientCredentials(
        root_certificates=_DATA / "authority.pem",
        certificate=_DATA / "client.pem",
        key=_DATA / "client.key",
    )
    with running_server(HoldPolicy(), options) as server:
        with PolicyClient(
            server.address, credentials=dataclasses.replace(shown, token=_TOKEN)
        ) as client:
            client.reset(seed=0)
            client.step(make_observation())
        for token, said in ((None, "got none"), (_OTHER_TOKEN, "none of this server's")):
            credentials = dataclasses.replace(shown, token=token)
            with (
                PolicyClient(server.address, credentials=credentials) as client,
                pytest.raises(NotAuthorizedError, match=said),
            ):
                client.reset(seed=0)
        assert server.server.metrics.num_refusals == 2
        assert server.server.metrics.num_episodes == 1


def test_a_client_over_its_rate_is_told_when_to_come_back(token_file) -> None:
    token_file.write_text(f"greedy: {_TOKEN}\nother: {_OTHER_TOKEN}\n")
    options = ServerOptions(
        address="127.0.0.1:0", max_calls_per_s=0.001, tokens=BearerTokens(token_file)
    )
    with running_server(HoldPolicy(), options) as server:

        def ask(token: str) -> None:
            # On a connection of its own: the limit is the token's.
            with grpc.insecure_channel(server.address) as channel:
                channel.unary_unary(
                    "/lbm_policy_interface.GetPolicyMetadataService/GetPolicyMetadata"
                )(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=_PATIENCE_S)

        ask(_TOKEN)
        error = _refusal(lambda: ask(_TOKEN))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        trailing = dict(error.trailing_metadata())
        detail = PolicySession_pb2.ErrorDetail.FromString(trailing["assay-error-bin"])
        assert detail.reason == "rate_limit"
        assert 900_000 < detail.retry_after_ms <= 1_000_000
        ask(_OTHER_TOKEN)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"certificate": "none.pem"}, "certificate .*none.pem: No such file"),
        ({"key": "none.key"}, "key .*none.key: No such file"),
        ({"client_ca": "none.pem"}, "client_ca .*none.pem: No such file"),
        ({"key": "client.key"}, "of one pair: key values mismatch"),
        ({"certificate": "server.key"}, "expected PEM files of one pair"),
        ({"key": "make_certificates.sh"}, "expected PEM files of one pair"),
        ({"client_ca": "client.key"}, "client_ca .*: expected certificates as PEM"),
        ({"key": "server_with_passphrase.key"}, "the key has a passphrase"),
    ],
)
def test_files_that_are_no_pair_are_refused_in_one_line(options, said) -> None:
    files = {"certificate": "server.pem", "key": "server.key", **options}
    with pytest.raises(SecurityError, match=said) as refused:
        TlsOptions(**{name: _DATA / file for name, file in files.items()})
    assert "\n" not in str(refused.value)


def test_a_key_that_others_may_read_is_warned_of(tmp_path, caplog) -> None:
    key = tmp_path / "server.key"
    shutil.copy(_DATA / "server.key", key)
    key.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        TlsOptions(certificate=_DATA / "server.pem", key=key)
    assert "others may read it" in caplog.text
