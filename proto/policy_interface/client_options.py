"""How a client connects, what it sends, how long it waits and when it tries again."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import grpc

from policy_interface.codec import MAX_MESSAGE_BYTES
from policy_interface.images import DEFAULT_JPEG_QUALITY, Encoding

PEM = bytes | str | Path
"""A PEM file, or what is in one as bytes."""

# The metadata key that chooses among a server's policies; of use where a request has no field for
# it. And that of a bearer token (RFC 6750).
POLICY_KEY = "assay-policy"
AUTHORIZATION_KEY = "authorization"


class ClientOptionError(ValueError):
    """An option of a client that it cannot be made with."""


@dataclass(frozen=True, kw_only=True)
class ClientCredentials:
    """What a client shows a server, and whom it trusts.

    root_certificates: the authorities whose word for the server is good; None for those that gRPC
        trusts by itself.
    certificate, key: this client's own, for a server that requires one (mutual TLS).
    token, token_file: a bearer token, or the file that holds one; read once.
    use_tls: to be said only where neither root_certificates nor a certificate is given.
    server_name: that the server's certificate is for, where that is not the address's host.
    """

    root_certificates: PEM | None = None
    certificate: PEM | None = field(default=None, repr=False)
    key: PEM | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: str | Path | None = None
    use_tls: bool = False
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            given, lacking = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ClientOptionError(f"credentials: a {given} without its {lacking}; give both")
        if self.token is not None and self.token_file is not None:
            raise ClientOptionError("credentials: give token or token_file, not both")

    @property
    def is_encrypted(self) -> bool:
        return self.use_tls or self.root_certificates is not None or self.certificate is not None

    def bearer_token(self) -> str | None:
        """Raises ClientOptionError for a file that cannot be read or a token that is none."""
        token, source = self.token, "token"
        if self.token_file is not None:
            token, source = (
                _read(self.token_file, "token_file").decode(errors="replace"),
                (f"token_file {self.token_file}"),
            )
            token = token.strip()
        # Visible ASCII is what a header can carry; the token itself is not repeated in the error.
        if token is not None and not (token and all("!" <= letter <= "~" for letter in token)):
            raise ClientOptionError(
                f"credentials: {source}: expected visible ASCII characters and no spaces, "
                f"got {len(token)} characters that are not"
            )
        return token

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For an encrypted channel. Raises ClientOptionError for a file that cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.root_certificates, "root_certificates"),
            private_key=_pem(self.key, "key"),
            certificate_chain=_pem(self.certificate, "certificate"),
        )


def _pem(source: PEM | None, name: str) -> bytes | None:
    if source is None:
        return None
    data = source if isinstance(source, bytes) else _read(source, name)
    if b"-----BEGIN " not in data:
        raise ClientOptionError(f"credentials: {name}: expected PEM (-----BEGIN ...), got none")
    return data


def _read(path: str | Path, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ClientOptionError(
            f"credentials: {name}: cannot read {path}: {error.strerror}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a call that may safely be made again is made again; never beyond the call's timeout.

    The pause before try n + 1 is initial_pause_s * growth ** (n - 1), and at most max_pause_s; of
    that, up to the fraction `jitter` is left out at random, so that clients that were refused
    together do not come back together. A server that says when to come back is not asked earlier.
    """

    max_tries: int = 5
    initial_pause_s: float = 0.05
    max_pause_s: float = 1.0
    growth: float = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.max_tries < 1:
            raise ClientOptionError(f"retries: max_tries: expected 1 or more, got {self.max_tries}")
        if not 0 < self.initial_pause_s <= self.max_pause_s < math.inf:
            raise ClientOptionError(
                "retries: expected 0 < initial_pause_s <= max_pause_s, "
                f"got {self.initial_pause_s} and {self.max_pause_s}"
            )
        if not 1 <= self.growth <= 10:
            raise ClientOptionError(f"retries: growth: expected 1 to 10, got {self.growth}")
        if not 0 <= self.jitter <= 1:
            raise ClientOptionError(f"retries: jitter: expected 0 to 1, got {self.jitter}")

    def pause_s(self, num_tries: int, random: float) -> float:
        """After so many tries. random: from [0, 1)."""
        # Past 100 tries the power would overflow, and the cap has long held.
        pause_s = self.initial_pause_s * self.growth ** min(num_tries - 1, 100)
        return min(pause_s, self.max_pause_s) * (1 - self.jitter * random)


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Everything that a client is made with. See PolicyClient for what each is."""

    address: str
    timeout_s: float = 60.0
    policy: str | None = None
    encoding: Encoding = "raw"
    quality: int = DEFAULT_JPEG_QUALITY
    credentials: ClientCredentials | None = None
    max_message_bytes: int = MAX_MESSAGE_BYTES
    retries: RetryPolicy = RetryPolicy()

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < math.inf:
            raise ClientOptionError(f"timeout_s: expected seconds, got {self.timeout_s}")
        if self.encoding not in get_args(Encoding):
            raise ClientOptionError(
                f"encoding: expected one of {', '.join(get_args(Encoding))}, got {self.encoding!r}"
            )
        if not 1 <= self.quality <= 100:
            raise ClientOptionError(f"quality: expected 1 to 100, got {self.quality}")
        if self.max_message_bytes < 1:
            raise ClientOptionError(
                f"max_message_bytes: expected 1 or more, got {self.max_message_bytes}"
            )
        if self.policy is not None and not (self.policy.isascii() and self.policy.isprintable()):
            raise ClientOptionError(f"policy: expected printable ASCII, got {self.policy!r:.80}")

    @property
    def is_encrypted(self) -> bool:
        return self.credentials is not None and self.credentials.is_encrypted

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call.

        Raises ClientOptionError for a token that would travel unencrypted to another machine.
        """
        metadata = [] if self.policy is None else [(POLICY_KEY, self.policy)]
        token = None if self.credentials is None else self.credentials.bearer_token()
        if token is not None:
            if not self.is_encrypted and not is_loopback(self.address):
                raise ClientOptionError(
                    f"credentials: a token would travel unencrypted to {self.address}; give "
                    "root_certificates or use_tls=True, or connect through loopback"
                )
            metadata.append((AUTHORIZATION_KEY, f"Bearer {token}"))
        return tuple(metadata)

    def channel_options(self) -> list[tuple[str, int | str]]:
        options: list[tuple[str, int | str]] = [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            # A server that comes back is found within a second, not after minutes of backoff.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # gRPC shares one connection among a process's channels that look alike; one client's
            # images would then wait for another's.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if is_loopback(self.address):
            # A proxy of the environment would take the call, and a token, off this machine.
            options.append(("grpc.enable_http_proxy", 0))
        if self.credentials is not None and self.credentials.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.credentials.server_name))
        return options


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT, or a socket's path after unix:, is sure never to leave this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
