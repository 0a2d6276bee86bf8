"""TLS, mutual TLS and tokens, right and wrong, and an error that says which."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from policy_interface.client_errors import NotAuthorizedError, TransportSecurityError
from policy_interface.client_options import ClientCredentials, ClientOptionError, RetryPolicy

# Made for the tests of the server's side of it.
DATA = Path(__file__).parent.parent / "policy_server" / "data"
AUTHORITY = DATA / "authority.pem"
BEARER = "s3cret-token"
QUICK = RetryPolicy(max_tries=2, initial_pause_s=0.001)


def _server_credentials(*, asks_for_certificate: bool = False) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [((DATA / "server.key").read_bytes(), (DATA / "server.pem").read_bytes())],
        root_certificates=AUTHORITY.read_bytes(),
        require_client_auth=asks_for_certificate,
    )


@pytest.mark.parametrize("kind", ["path", "text", "bytes"])
def test_a_trusted_server_is_talked_to(connect, make_server, make_observation, kind) -> None:
    server = make_server(credentials=_server_credentials())
    root = {"path": AUTHORITY, "text": str(AUTHORITY), "bytes": AUTHORITY.read_bytes()}[kind]
    with connect(server.address, credentials=ClientCredentials(root_certificates=root)) as client:
        client.wait_until_serving(timeout_s=60)
        client.reset(seed=0)
        client.step(make_observation())
        with client.episode(seed=0) as episode:
            episode.step(make_observation())


def test_a_server_of_another_name_is_talked_to_by_that(connect, make_server) -> None:
    server = make_server(credentials=_server_credentials())
    address = server.address.replace("127.0.0.1", "ipv4:127.0.0.1")
    credentials = ClientCredentials(root_certificates=AUTHORITY, server_name="localhost")
    with connect(address, credentials=credentials) as client:
        assert client.metadata().name == "hold"


def test_both_show_their_certificates(connect, make_server) -> None:
    server = make_server(credentials=_server_credentials(asks_for_certificate=True))
    credentials = ClientCredentials(
        root_certificates=AUTHORITY, certificate=DATA / "client.pem", key=DATA / "client.key"
    )
    with connect(server.address, credentials=credentials) as client:
        assert client.metadata().name == "hold"


@pytest.mark.parametrize(
    ("server_speaks_tls", "credentials", "said"),
    [
        (True, None, r"TLS port.*give credentials with root_certificates"),
        (False, {"root_certificates": AUTHORITY}, r"does not speak TLS"),
        (True, {"root_certificates": DATA / "stranger.pem"}, r"certificate is not trusted"),
        (True, {"root_certificates": AUTHORITY, "server_name": "robot"}, r"not trusted.*name"),
    ],
    ids=["plaintext to TLS", "TLS to plaintext", "not trusted", "another name"],
)
@pytest.mark.parametrize("call", ["metadata", "wait_until_serving"])
def test_a_connection_that_does_not_come_about_says_why(
    connect, make_server, server_speaks_tls, credentials, said, call
) -> None:
    server = make_server(credentials=_server_credentials() if server_speaks_tls else None)
    options = {"credentials": credentials and ClientCredentials(**credentials), "retries": QUICK}
    # A server that closes the connection, as TLS does to plaintext, is tried until the end.
    timeout_s = 1 if credentials is None else 60
    with (
        connect(server.address, **options) as client,
        pytest.raises(TransportSecurityError, match=said),
    ):
        client.metadata() if call == "metadata" else client.wait_until_serving(timeout_s=timeout_s)
    assert not server.seen


@pytest.mark.parametrize("identity", [None, "stranger"])
def test_a_server_that_wants_a_certificate_is_not_talked_to_without(
    connect, make_server, identity
) -> None:
    server = make_server(credentials=_server_credentials(asks_for_certificate=True))
    credentials = ClientCredentials(
        root_certificates=AUTHORITY,
        certificate=identity and DATA / f"{identity}.pem",
        key=identity and DATA / f"{identity}.key",
    )
    with (
        connect(server.address, credentials=credentials, retries=QUICK) as client,
        pytest.raises(TransportSecurityError, match="certificate"),
    ):
        client.metadata()
    assert not server.seen


@pytest.mark.parametrize("source", ["token", "token_file"])
def test_a_token_goes_with_every_call(connect, server, make_observation, tmp_path, source) -> None:
    path = tmp_path / "token"
    path.write_text(f"{BEARER}\n")
    given = {"token": BEARER} if source == "token" else {"token_file": path}
    credentials = ClientCredentials(**given)
    assert BEARER not in repr(credentials)
    with connect(server.address, credentials=credentials) as client:
        client.metadata()
        client.reset(seed=0)
        client.step(make_observation())
        with client.episode(seed=0):
            pass
    assert len(server.seen) == 4
    assert all(seen.metadata["authorization"] == f"Bearer {BEARER}" for seen in server.seen)


def test_a_wrong_token_is_not_tried_twice(connect, server) -> None:
    server.refuse("GetPolicyMetadata", grpc.StatusCode.UNAUTHENTICATED, "no such token")
    with (
        connect(server.address, credentials=ClientCredentials(token=BEARER)) as client,
        pytest.raises(NotAuthorizedError, match="no such token"),
    ):
        client.metadata()
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("127.0.0.1:50051", False),
        ("127.8.0.1:50051", False),
        ("localhost:50051", False),
        ("[::1]:50051", False),
        ("unix:policy.sock", False),
        ("10.0.0.7:50051", True),
        ("robots.example:50051", True),
        ("localhost.example:50051", True),
        ("dns://10.0.0.7/localhost:50051", True),
        ("ipv4:127.0.0.1:50051,10.0.0.7:50051", True),
        ("[::ffff:10.0.0.7]:50051", True),
    ],
)
def test_a_token_leaves_the_machine_only_encrypted(connect, address, is_refused) -> None:
    plain = ClientCredentials(token=BEARER)
    if is_refused:
        with pytest.raises(ClientOptionError, match="unencrypted") as caught:
            connect(address, credentials=plain)
        assert BEARER not in str(caught.value)
    else:
        with connect(address, credentials=plain):
            pass
    with connect(address, credentials=ClientCredentials(token=BEARER, use_tls=True)):
        pass


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ({"root_certificates": DATA / "none.pem"}, "root_certificates: cannot read .*none.pem"),
        ({"root_certificates": b"no certificate"}, "root_certificates: expected PEM"),
        ({"token_file": DATA / "none"}, "token_file: cannot read"),
        ({"token": ""}, "token: expected"),
        ({"token": "two words"}, "token: expected"),
        ({"token": "line\r\nassay-policy: other"}, "token: expected"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused(connect, credentials, said) -> None:
    with pytest.raises(ClientOptionError, match=said):
        connect("127.0.0.1:50051", credentials=ClientCredentials(**credentials))


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ({"certificate": DATA / "client.pem"}, "a certificate without its key"),
        ({"key": DATA / "client.key"}, "a key without its certificate"),
        ({"token": "a", "token_file": "b"}, "not both"),
    ],
)
def test_half_of_a_credential_is_refused(credentials, said) -> None:
    with pytest.raises(ClientOptionError, match=said):
        ClientCredentials(**credentials)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"encoding": "gif"},
        {"quality": 101},
        {"max_message_bytes": 0},
        {"policy": "new\nline"},
    ],
)
def test_options_that_make_no_sense_are_refused(connect, options) -> None:
    with pytest.raises(ClientOptionError, match=next(iter(options))):
        connect("127.0.0.1:50051", **options)
