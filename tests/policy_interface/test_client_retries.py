"""What is tried again, when, and what never is: a robot must not act twice on one observation."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.client_errors import (
    BusyError,
    NoEpisodeError,
    OverloadedError,
    PolicyFailureError,
    UnavailableError,
)
from policy_interface.client_options import ClientOptionError, RetryPolicy
from policy_interface.generated.assay_policy_interface import PolicySession_pb2

STEADY = RetryPolicy(jitter=0)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
OVERLOADED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Time:
    """Passes only by pauses."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def patient(connect, time):
    """A client for whom no time passes but in its pauses: patient(address, **options)."""

    def connected(address: str, **options):
        options = {"retries": STEADY, "timeout_s": 60.0} | options
        return connect(address, clock=time.clock, sleep=time.sleep, **options)

    return connected


def _hint(retry_after_ms: int) -> list[tuple[str, str | bytes]]:
    detail = PolicySession_pb2.ErrorDetail(retry_after_ms=retry_after_ms)
    return [("assay-error-bin", detail.SerializeToString())]


CALLS = {
    "GetPolicyMetadata": lambda client: client.metadata(),
    "Handshake": lambda client: client.handshake(),
    "PolicyReset": lambda client: client.reset(seed=5),
    "EndEpisode": lambda client: client.end_episode(),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_may_be_repeated_are(patient, server, time, name) -> None:
    for _ in range(3):
        server.refuse(name, UNAVAILABLE)
    with patient(server.address) as client:
        CALLS[name](client)
    first, *others = server.requests(name)
    # The same reset, of the same episode.
    assert others == [first] * 3
    assert time.pauses_s == pytest.approx([0.05, 0.1, 0.2])


@pytest.mark.parametrize("name", CALLS)
def test_tries_are_bounded_in_number(patient, server, time, name) -> None:
    for _ in range(9):
        server.refuse(name, UNAVAILABLE, "away")
    with patient(server.address) as client, pytest.raises(UnavailableError, match="away"):
        CALLS[name](client)
    assert len(server.requests(name)) == 5
    assert time.pauses_s == pytest.approx([0.05, 0.1, 0.2, 0.4])


def test_tries_are_bounded_by_the_calls_deadline(patient, server, time) -> None:
    for _ in range(9):
        server.refuse("GetPolicyMetadata", UNAVAILABLE, "away")
    with (
        patient(server.address, timeout_s=0.3) as client,
        pytest.raises(UnavailableError, match="away"),
    ):
        client.metadata()
    assert time.pauses_s == pytest.approx([0.05, 0.1])


def test_each_try_has_what_is_left_of_the_deadline(connect, server, make_observation, time) -> None:
    """One second of pauses leaves a real second, at which the silent server fails."""
    server.refuse("PolicyStep", OVERLOADED, "full", _hint(1000))
    with connect(
        server.address, timeout_s=2.05, retries=STEADY, clock=time.clock, sleep=time.sleep
    ) as client:
        client.handshake()
        client.reset(seed=0)
        server.release.clear()
        with pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
            client.step(make_observation())
    assert time.pauses_s == pytest.approx([1.05])
    assert server.stepping.wait(60)
    assert len(server.requests("PolicyStep")) == 2


@pytest.mark.parametrize(
    "metadata", [_hint(200), [("grpc-retry-pushback-ms", "200")]], ids=["detail", "pushback"]
)
def test_an_overloaded_server_says_when(patient, server, time, metadata, make_observation) -> None:
    with patient(server.address) as client:
        client.handshake()
        client.reset(seed=0)
        for _ in range(2):
            server.refuse("PolicyStep", OVERLOADED, "full", metadata)
        client.step(make_observation())
    assert time.pauses_s == pytest.approx([0.25, 0.3])


@pytest.mark.parametrize("metadata", [[], _hint(-1), [("grpc-retry-pushback-ms", "-1")]])
def test_a_limit_without_a_time_is_not_tried_again(patient, server, time, metadata) -> None:
    server.refuse("PolicyReset", OVERLOADED, "64 sessions are all there may be", metadata)
    with patient(server.address) as client, pytest.raises(OverloadedError, match="64"):
        client.reset(seed=0)
    assert time.pauses_s == []


def test_a_time_beyond_the_deadline_is_not_waited_for(patient, server, time) -> None:
    server.refuse("PolicyReset", OVERLOADED, "full", _hint(61_000))
    with patient(server.address) as client, pytest.raises(OverloadedError) as caught:
        client.reset(seed=0)
    assert caught.value.retry_after_s == 61.0
    assert time.pauses_s == []


def test_no_means_no(patient, server, time) -> None:
    server.refuse("GetPolicyMetadata", UNAVAILABLE, "moved for good", _hint(-1))
    with patient(server.address) as client, pytest.raises(UnavailableError) as caught:
        client.metadata()
    assert caught.value.is_final
    assert time.pauses_s == []


@pytest.mark.parametrize("is_known", [False, True])
def test_our_server_gets_the_same_step_again(
    patient, server, time, make_observation, is_known
) -> None:
    with patient(server.address) as client:
        if is_known:
            client.handshake()
        client.metadata()
        client.reset(seed=0)
        client.step(make_observation())
        for _ in range(2):
            server.refuse("PolicyStep", UNAVAILABLE)
        client.step(make_observation(seed=1))
        client.step(make_observation())
    _, *tries, _ = server.requests("PolicyStep")
    assert tries == [tries[0]] * 3
    assert [step.control_step for step in server.requests("PolicyStep")] == [0, 1, 1, 1, 2]
    assert time.pauses_s == pytest.approx([0.05, 0.1])
    # Asked for once, by the user or by the client.
    assert len(server.requests("Handshake")) == 1


@pytest.mark.parametrize("is_known", [False, True])
def test_a_foreign_server_never_gets_a_step_again(
    patient, foreign_server, time, make_observation, is_known
) -> None:
    with patient(foreign_server.address) as client:
        if is_known:
            client.metadata()
        client.reset(seed=0)
        for status in (UNAVAILABLE, OVERLOADED):
            foreign_server.refuse("PolicyStep", status, "as told", _hint(10))
            with pytest.raises((UnavailableError, OverloadedError), match="as told"):
                client.step(make_observation())
    assert len(foreign_server.requests("PolicyStep")) == 2
    assert time.pauses_s == []


def test_a_contract_alone_does_not_make_a_server_ours(
    patient, make_server, time, make_observation
) -> None:
    server = make_server(is_ours=False, states_contract=True)
    with patient(server.address) as client:
        assert client.contract() == server.contract
        client.reset(seed=0)
        server.refuse("PolicyStep", UNAVAILABLE, "as told")
        with pytest.raises(UnavailableError, match="as told"):
            client.step(make_observation())
    assert len(server.requests("PolicyStep")) == 1


def test_a_step_is_not_repeated_to_a_server_that_does_not_say_whose_it_is(
    patient, server, make_observation
) -> None:
    with patient(server.address) as client:
        client.reset(seed=0)
        server.refuse("PolicyStep", UNAVAILABLE, "as told")
        for _ in range(5):
            server.refuse("Handshake", UNAVAILABLE, "nobody there")
        with pytest.raises(UnavailableError, match="as told"):
            client.step(make_observation())
    assert len(server.requests("PolicyStep")) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.INTERNAL, PolicyFailureError),
        (grpc.StatusCode.FAILED_PRECONDITION, NoEpisodeError),
        (grpc.StatusCode.ABORTED, BusyError),
    ],
)
def test_what_would_fail_again_is_not_repeated(
    patient, server, time, make_observation, status, kind
) -> None:
    server.refuse("PolicyStep", status)
    with patient(server.address) as client:
        client.handshake()
        client.reset(seed=0)
        with pytest.raises(kind):
            client.step(make_observation())
    assert time.pauses_s == []


def test_a_try_that_finds_the_one_before_it_still_there_waits(
    patient, server, time, make_observation
) -> None:
    server.refuse("PolicyStep", UNAVAILABLE, "connection lost")
    server.refuse("PolicyStep", grpc.StatusCode.ABORTED, "a step of this episode is under way")
    with patient(server.address) as client:
        client.handshake()
        client.reset(seed=0)
        client.step(make_observation())
    assert len(server.requests("PolicyStep")) == 3
    assert len(time.pauses_s) == 2


def test_an_episodes_stream_is_opened_again_but_never_stepped_again(
    patient, server, make_observation
) -> None:
    server.refuse("Episode.begin", UNAVAILABLE)
    server.refuse("Episode.step", UNAVAILABLE, "gone")
    with patient(server.address) as client, client.episode(seed=4) as episode:
        with pytest.raises(UnavailableError, match="gone"):
            episode.step(make_observation())
        # The stream has ended, and says so for good.
        with pytest.raises(UnavailableError, match="gone"):
            episode.step(make_observation())
    assert len(server.requests("Episode.begin")) == 2
    assert len(server.requests("Episode.step")) == 1


@given(
    num_tries=st.integers(1, 10_000),
    random=st.floats(0, 1, exclude_max=True),
    initial_pause_s=st.floats(1e-3, 1.0),
    growth=st.floats(1.0, 10.0),
    jitter=st.floats(0.0, 1.0),
)
def test_pauses_grow_to_their_bound_and_not_beyond(
    num_tries, random, initial_pause_s, growth, jitter
) -> None:
    retries = RetryPolicy(
        initial_pause_s=initial_pause_s, max_pause_s=1.0, growth=growth, jitter=jitter
    )
    pause_s = retries.pause_s(num_tries, random)
    longest_s = retries.pause_s(num_tries, 0.0)
    assert (1 - jitter) * longest_s <= pause_s <= longest_s <= 1.0
    assert longest_s >= retries.pause_s(max(num_tries - 1, 1), 0.0) >= initial_pause_s


@pytest.mark.parametrize(
    "options",
    [
        {"max_tries": 0},
        {"initial_pause_s": 0.0},
        {"initial_pause_s": 2.0},
        {"max_pause_s": float("inf")},
        {"growth": 0.5},
        {"jitter": 1.5},
        {"jitter": float("nan")},
    ],
)
def test_a_retry_policy_that_makes_no_sense_is_refused(options) -> None:
    with pytest.raises(ClientOptionError, match=next(iter(options))):
        RetryPolicy(**options)
