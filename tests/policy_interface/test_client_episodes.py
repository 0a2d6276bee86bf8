"""An episode as one stream: in order, with a deadline for each answer, gone when it ends."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from policy_interface.async_client import AsyncPolicyClient
from policy_interface.client_errors import (
    CallCancelledError,
    DeadlineError,
    InvalidRequestError,
    MalformedAnswerError,
    UnknownPolicyError,
    UnsupportedError,
)
from policy_interface.contract import Contract
from policy_interface.generated.assay_policy_interface import PolicySession_pb2

_PATIENCE_S = 60.0


def test_an_episode_is_a_stream_that_ends_with_it(
    connect, server, make_observation, monkeypatch
) -> None:
    # Else a busy machine's stream may be cut off before it has ended.
    for client in ("client", "async_client"):
        monkeypatch.setattr(f"policy_interface.{client}.STREAM_END_TIMEOUT_S", _PATIENCE_S)
    observation = make_observation()
    with connect(server.address, policy="wave") as client:
        with client.episode(seed=9, station_contract=server.contract) as episode:
            assert episode.session == "session 1"
            action = episode.step(observation)
            chunk = episode.step_chunk(observation)
        assert server.stream_ended.wait(_PATIENCE_S)
    assert server.stream_was_finished
    for arm, pose in observation.actual.poses.items():
        assert np.array_equal(action.poses[arm].matrix(), pose.matrix())
    assert chunk.first_control_step == 1
    (begin,) = server.requests("Episode.begin")
    assert (begin.begin.seed, begin.begin.policy) == (9, "wave")
    assert Contract.from_json(begin.begin.station_contract) == server.contract
    wishes = [step.step.wants_chunk for step in server.requests("Episode.step")]
    assert wishes == [False, True]


def test_an_episode_that_breaks_off_tells_the_server(connect, server, make_observation) -> None:
    def robot_fails(client) -> None:
        with client.episode(seed=0) as episode:
            episode.step(make_observation())
            raise ZeroDivisionError

    with connect(server.address) as client:
        with pytest.raises(ZeroDivisionError):
            robot_fails(client)
        assert server.stream_ended.wait(_PATIENCE_S)
        # And the channel is as good as it was.
        client.reset(seed=0)


def test_a_silent_stream_meets_the_deadline(connect, server, make_observation) -> None:
    with (
        connect(server.address, timeout_s=1) as client,
        client.episode(seed=0) as episode,
    ):
        server.release.clear()
        with pytest.raises(DeadlineError, match="Episode.*within 1 s"):
            episode.step(make_observation())
        # The answer that comes too late is not taken for the next one's.
        server.release.set()
        with pytest.raises(DeadlineError):
            episode.step(make_observation())


def test_a_refused_beginning_says_why(connect, server) -> None:
    server.refuse("Episode.begin", grpc.StatusCode.NOT_FOUND, "no policy 'x'")
    with (
        connect(server.address) as client,
        pytest.raises(UnknownPolicyError, match="no policy 'x'"),
        client.episode(seed=0),
    ):
        pytest.fail("the episode has begun")


def test_a_stream_that_is_refused_at_once_says_so_every_time(connect, foreign_server) -> None:
    """A write that came too late used to hide the status (grpc/grpc issue 36066)."""
    with connect(foreign_server.address) as client:
        for _ in range(50):
            with pytest.raises(UnsupportedError), client.episode(seed=0):
                pytest.fail("the episode has begun")


def test_a_refused_step_ends_the_episode(connect, server, make_observation) -> None:
    server.refuse("Episode.step", grpc.StatusCode.INVALID_ARGUMENT, "no such camera")
    with connect(server.address) as client, client.episode(seed=0) as episode:
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="no such camera"):
                episode.step(make_observation())
    assert len(server.requests("Episode.step")) == 1


@pytest.mark.parametrize("moment", ["begin", "step"])
@pytest.mark.parametrize("kind", ["bytes", "another message"])
def test_an_answer_out_of_turn_is_reported(connect, server, make_observation, moment, kind) -> None:
    answers = {
        "begin": PolicySession_pb2.EpisodeResponse(step={"success": True}),
        "step": PolicySession_pb2.EpisodeResponse(begun={"session": "again"}),
    }
    data = b"\xff\xff" if kind == "bytes" else answers[moment].SerializeToString()
    server.answer(f"Episode.{moment}", data)
    with (
        connect(server.address) as client,
        pytest.raises(MalformedAnswerError),
        client.episode(seed=0) as episode,
    ):
        episode.step(make_observation())
    assert server.stream_ended.wait(_PATIENCE_S)


def test_an_episode_is_over_when_its_client_is_closed(connect, server, make_observation) -> None:
    with connect(server.address) as client, client.episode(seed=0) as episode:
        client.close()
        for _ in range(2):
            with pytest.raises(CallCancelledError):
                episode.step(make_observation())


def test_many_episodes_share_an_asyncio_client(server, make_observation) -> None:
    observation = make_observation()

    async def run() -> list[str]:
        async def one(client: AsyncPolicyClient, seed: int) -> str:
            async with client.episode(seed=seed) as episode:
                await episode.step(observation)
                return episode.session

        async with AsyncPolicyClient(server.address, timeout_s=_PATIENCE_S) as client:
            return await asyncio.gather(*(one(client, seed) for seed in range(3)))

    assert asyncio.run(run()) == ["session 1"] * 3
    assert sorted(begin.begin.seed for begin in server.requests("Episode.begin")) == [0, 1, 2]


def test_a_cancelled_task_leaves_no_answer_behind(server, make_observation) -> None:
    async def run() -> None:
        async with (
            AsyncPolicyClient(server.address, timeout_s=_PATIENCE_S) as client,
            client.episode(seed=0) as episode,
        ):
            server.release.clear()
            step = asyncio.create_task(episode.step(make_observation()))
            assert await asyncio.to_thread(server.stepping.wait, _PATIENCE_S)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            server.release.set()
            with pytest.raises(CallCancelledError):
                await episode.step(make_observation())

    asyncio.run(run())


@pytest.mark.parametrize("has_stream", [False, True])
def test_closing_ends_the_calls_of_other_tasks(server, make_observation, has_stream) -> None:
    async def step(client: AsyncPolicyClient) -> None:
        if has_stream:
            async with client.episode(seed=0) as episode:
                await episode.step(make_observation())
        else:
            await client.step(make_observation())

    async def run() -> None:
        client = AsyncPolicyClient(server.address, timeout_s=_PATIENCE_S)
        server.release.clear()
        stepping = asyncio.create_task(step(client))
        assert await asyncio.to_thread(server.stepping.wait, _PATIENCE_S)
        await client.close()
        with pytest.raises(CallCancelledError):
            await stepping

    asyncio.run(run())
