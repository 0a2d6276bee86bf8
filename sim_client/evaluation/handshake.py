"""Meeting the policy: is it there, which one is it, and does the station fit it?"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from policy_interface.client import (
    PolicyClient,
    PolicyServerRefusedError,
    PolicyServerUnreachableError,
)
from policy_interface.contract import (
    CHECKPOINT_DIGEST_KEY,
    CONTRACT_KEY,
    HOST_KEY,
    RUNTIME_PREFIX,
    Contract,
    ContractError,
    ImageSize,
    differences,
)
from policy_interface.types import PolicyMetadata
from sim_client.evaluation.errors import EvaluationStoppedError
from step_analysis.strict_json import FormatError, parse_object

# Of a policy whose server states no digest.
_OF_METADATA = "metadata-sha256:"

# How many episodes share a forward pass is no property of the policy.
_BATCH_SIZE_KEY = "assay.max_batch_size"

_RETRY_PAUSE_S = 0.25
_MAX_HOST_FACTS = 50


@dataclass(frozen=True, kw_only=True)
class ServedPolicy:
    """The policy behind an address.

    digest: of its checkpoint. serving: how the server executes it, by name. contract: None from
    a server that is not ours. host: what computes it, such as the version of torch, as far as the
    server says.
    """

    name: str
    digest: str
    serving: Mapping[str, str]
    contract: Contract | None
    host: Mapping[str, str] = field(default_factory=dict)


def await_metadata(client: PolicyClient, *, timeout_s: float) -> PolicyMetadata:
    """The server's metadata, as soon as it serves.

    Raises PolicyServerUnreachableError where it does not within timeout_s, and
    PolicyServerRefusedError where it answers with an error of its own.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _await_health(client, timeout_s=max(deadline - time.monotonic(), 0.1))
            return client.metadata()
        except PolicyServerUnreachableError:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise
            # A server that is going down, or a proxy in front of none, says so at once: there is
            # no event to wait for, and asking again without a pause would be a busy loop.
            time.sleep(min(remaining_s, _RETRY_PAUSE_S))


def _await_health(client: PolicyClient, *, timeout_s: float) -> None:
    try:
        client.wait_until_serving(timeout_s=timeout_s)
    except PolicyServerRefusedError:
        # LBM Eval's sample server has no Health.Watch. It answered, so it is there.
        return


def served_policy(metadata: PolicyMetadata, *, name: str | None) -> ServedPolicy:
    """Raises EvaluationStoppedError for metadata that no evaluation can be filed under."""
    contract_json = metadata.runtime_information.get(CONTRACT_KEY)
    try:
        contract = None if contract_json is None else Contract.from_json(contract_json)
    except ContractError as error:
        raise EvaluationStoppedError(f"the server states no readable contract: {error}") from error
    return ServedPolicy(
        name=metadata.name if name is None else name,
        digest=policy_digest(metadata),
        serving=serving_options(metadata),
        contract=contract,
        host=_host(metadata),
    )


def _host(metadata: PolicyMetadata) -> dict[str, str]:
    """Of texts alone, and not many: a server may say anything."""
    try:
        told = parse_object(metadata.runtime_information.get(HOST_KEY, "{}"), HOST_KEY)
    except FormatError as error:
        raise EvaluationStoppedError(f"the server states no readable {error}") from error
    texts = {name: fact for name, fact in told.items() if isinstance(fact, str)}
    return dict(list(texts.items())[:_MAX_HOST_FACTS])


def policy_digest(metadata: PolicyMetadata) -> str:
    """What tells this policy from another: its checkpoint's digest, or all that it says of itself.

    A foreign server states no digest; two of its checkpoints then differ at least by path.
    """
    stated = metadata.runtime_information.get(CHECKPOINT_DIGEST_KEY)
    if stated:
        return stated
    described = {
        "name": metadata.name,
        "skill_type": metadata.skill_type,
        "checkpoint_path": metadata.checkpoint_path,
        "git_repo": metadata.git_repo,
        "git_sha": metadata.git_sha,
        "raw_policy_config": metadata.raw_policy_config,
        "is_language_conditioned": metadata.is_language_conditioned,
        "runtime_information": {
            name: value
            for name, value in metadata.runtime_information.items()
            if name not in (_BATCH_SIZE_KEY, HOST_KEY)
        },
    }
    text = json.dumps(described, sort_keys=True)
    return f"{_OF_METADATA}{hashlib.sha256(text.encode()).hexdigest()}"


def is_of_checkpoint(digest: str) -> bool:
    """Whether `policy_digest` gave what the server states, and not one of all that it says."""
    return not digest.startswith(_OF_METADATA)


def serving_options(metadata: PolicyMetadata) -> dict[str, str]:
    """What our own server says of how it executes the checkpoint.

    The same weights replanned twice as often are another policy, so this belongs to the
    evaluation's design.
    """
    elsewhere = (CONTRACT_KEY, CHECKPOINT_DIGEST_KEY, HOST_KEY, _BATCH_SIZE_KEY)
    return {
        name: value
        for name, value in metadata.runtime_information.items()
        if name.startswith(RUNTIME_PREFIX) and name not in elsewhere
    }


def agreed_contract(
    policy: ServedPolicy,
    *,
    known_cameras: Mapping[str, ImageSize],
) -> Contract:
    """The contract of the station to build: it renders just what the policy looks at.

    known_cameras: the station's, with the sizes that a policy without a contract gets.

    Raises EvaluationStoppedError with every difference where the two do not fit.
    """
    if policy.contract is None:
        return Contract(cameras=known_cameras, uses_language=True)
    required = policy.contract.cameras
    # A camera that the station lacks must be reported against all that it has.
    cameras = required if required.keys() <= known_cameras.keys() else known_cameras
    station = Contract(cameras=cameras, uses_language=True)
    found = differences(policy=policy.contract, station=station)
    if found:
        raise EvaluationStoppedError(
            f"the policy {policy.name!r} does not fit the station: {'; '.join(found)}"
        )
    return station
