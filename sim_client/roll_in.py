"""A policy acts first, and the expert takes over: demonstrations of the way back from its mistakes.

What an expert shows by itself lies on the expert's own way. A policy leaves that way, and nobody
has told it what to do there (Ross et al. 2011, arXiv:1011.0686). So it acts for a while, and what
is recorded begins where it has got to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from policy_interface.client_errors import PolicyServerError
from policy_interface.contract import Contract, differences
from sim_client.evaluation.errors import EvaluationStoppedError
from sim_client.evaluation.handshake import ServedPolicy, await_metadata, served_policy
from sim_client.evaluation.policy_session import Policy, PolicyFaultError, ServedPolicySession
from sim_client.evaluation.server_connection import ServerConnection
from sim_client.experts.expert import Expert
from sim_client.roll_in_options import RollIn
from sim_client.station.station import CONTROL_PERIOD_S, Station
from sim_client.tasks.random_streams import stream


class RollInError(RuntimeError):
    """There is no policy to begin with, or it does not fit what is recorded."""


@dataclass(frozen=True, kw_only=True)
class FirstActor:
    """The policy that begins, and for how many control steps at most."""

    policy: Policy
    name: str
    contract: Contract | None
    max_steps: int

    def take_station(self, station: Station, expert: Expert, *, seed: int) -> int:
        """Bring the scenario to where the expert takes over; returns the steps of the policy.

        The expert watches all the while, so that it knows what has been done already.

        Raises SimulationError, and RollInError where the policy does not answer.
        """
        share = stream(seed, "roll_in").random()
        num_steps = round(share * self.max_steps)
        try:
            # Where the policy decides the task by itself the same share of its own way is taken.
            while (ended := self._act(station, expert, seed, num_steps)) is not None:
                num_steps = int(share * ended)
        except PolicyServerError as error:
            raise RollInError(f"--roll-in.address: {error}") from error
        return num_steps

    def _act(self, station: Station, expert: Expert, seed: int, num_steps: int) -> int | None:
        """The step after which the task was decided, if it was."""
        station.reset(seed)
        expert.reset()
        self.policy.reset(seed=seed)
        for step in range(1, num_steps + 1):
            observation = station.observe()
            expert.act(station.scene_state(), observation.actual, observation.desired)
            if self.contract is not None:
                views = {name: observation.cameras[name] for name in self.contract.cameras}
                observation = replace(observation, cameras=views)
            try:
                action = self.policy.step(observation).action
            except PolicyFaultError:
                return step
            status = station.step(action)
            if status.success or status.failed:
                return step
        return None


def meet(roll_in: RollIn, contract: Contract) -> dict[str, Any]:
    """What a data set says of the policy that begins, as JSON values.

    contract: what the station gives. Raises RollInError.
    """
    with _served(roll_in) as (_, served):
        if served.contract is not None:
            found = differences(policy=served.contract, station=contract)
            if found:
                raise RollInError(
                    f"the policy {served.name!r} does not fit what is recorded: {'; '.join(found)}"
                )
        return {"policy": served.name, "digest": served.digest, "max_s": roll_in.max_s}


@contextmanager
def first_actor(roll_in: RollIn) -> Iterator[FirstActor]:
    """Raises RollInError."""
    with _served(roll_in) as (session, served):
        yield FirstActor(
            policy=session,
            name=served.name,
            contract=served.contract,
            max_steps=round(roll_in.max_s / CONTROL_PERIOD_S),
        )


@contextmanager
def _served(roll_in: RollIn) -> Iterator[tuple[ServedPolicySession, ServedPolicy]]:
    assert roll_in.address is not None
    try:
        with ServerConnection(address=roll_in.address).open() as client:
            served = served_policy(await_metadata(client, timeout_s=roll_in.wait_s), name=None)
            yield ServedPolicySession(client), served
    except (PolicyServerError, EvaluationStoppedError) as error:
        raise RollInError(f"--roll-in.address: {error}") from error
