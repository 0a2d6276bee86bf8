"""What a policy expects and what a station gives, compared before the first step.

A policy that is fed a missing camera as zeros, or widths in another unit, moves the robot wrongly
without an error. So both sides state a `Contract`; `differences` lists each mismatch, and
any mismatch stops the episode before it begins.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from policy_interface.types import Action, Observation

CONTRACT_VERSION = 1

# In PolicyMetadata.runtime_information: the policy's contract, as JSON; its checkpoint's digest;
# under the prefix, what else tells how it acts (flow steps, open-loop steps); and, as JSON, what
# computes it (versions, device), which is no part of the policy.
RUNTIME_PREFIX = "assay."
CONTRACT_KEY = "assay.contract"
CHECKPOINT_DIGEST_KEY = "assay.checkpoint_sha256"
HOST_KEY = "assay.host"

# A contract of sixty cameras takes less than 10 KB as JSON. A peer may send megabytes, and looking
# for the camera that it meant among all of its names takes seconds.
MAX_CONTRACT_CHARACTERS = 64 * 1024

TABLE_FRAME = "manipuland_table::table_top_center"
END_EFFECTOR_FRAME = "panda_link8"
RIGHT_ARM, LEFT_ARM = "right::panda", "left::panda"
RIGHT_GRIPPER, LEFT_GRIPPER = "right::panda_hand", "left::panda_hand"


class ContractError(ValueError):
    """A policy and a station that do not fit, or a contract that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    height: int
    width: int

    def __post_init__(self) -> None:
        if not (1 <= self.height <= 8192 and 1 <= self.width <= 8192):
            raise ContractError(f"image size: expected 1 to 8192 pixels a side, got {self}")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @staticmethod
    def parse(text: str) -> ImageSize:
        """From `WIDTHxHEIGHT`, such as 96x96."""
        width, cross, height = text.partition("x")
        if not (cross and all(side.isascii() and side.isdigit() for side in (width, height))):
            raise ContractError(f"image size {text!r}: expected WIDTHxHEIGHT, such as 96x96")
        return ImageSize(height=int(height), width=int(width))


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One side's terms.

    cameras: RGB cameras by semantic name. arms, grippers: names, in vector order.
    frame: the frame of all poses. end_effector: the frame that a pose moves.
    uses_language: a policy needs an instruction; a station gives one.
    """

    cameras: Mapping[str, ImageSize]
    arms: tuple[str, ...] = (RIGHT_ARM, LEFT_ARM)
    grippers: tuple[str, ...] = (RIGHT_GRIPPER, LEFT_GRIPPER)
    frame: str = TABLE_FRAME
    end_effector: str = END_EFFECTOR_FRAME
    gripper_unit: str = "m"
    control_rate_hz: float = 10.0
    uses_language: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", MappingProxyType(dict(self.cameras)))
        object.__setattr__(self, "arms", tuple(self.arms))
        object.__setattr__(self, "grippers", tuple(self.grippers))
        if not self.arms:
            raise ContractError("contract: expected at least one arm, got none")
        if not 0 < self.control_rate_hz <= 10_000:
            raise ContractError(
                f"contract: expected a control rate in (0, 10000] Hz, got {self.control_rate_hz}"
            )

    def to_json(self) -> str:
        fields = {
            "version": CONTRACT_VERSION,
            "cameras": {name: [s.height, s.width] for name, s in self.cameras.items()},
            "arms": list(self.arms),
            "grippers": list(self.grippers),
            "frame": self.frame,
            "end_effector": self.end_effector,
            "gripper_unit": self.gripper_unit,
            "control_rate_hz": self.control_rate_hz,
            "uses_language": self.uses_language,
        }
        return json.dumps(fields, indent=2)

    @staticmethod
    def from_json(text: str) -> Contract:
        """Raises ContractError for anything but a contract of this version."""
        if len(text) > MAX_CONTRACT_CHARACTERS:
            raise ContractError(
                f"contract: expected at most {MAX_CONTRACT_CHARACTERS} characters, got {len(text)}"
            )
        try:
            fields = json.loads(text)
        # Brackets within brackets, deeper than Python's stack.
        except (ValueError, RecursionError) as error:
            raise ContractError(f"contract: not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise ContractError(f"contract: expected a JSON object, got {type(fields).__name__}")
        version = fields.pop("version", None)
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"contract: version {version!r} is not the version {CONTRACT_VERSION} known here"
            )
        if fields.keys() != _FIELD_CHECKS.keys():
            missing = sorted(_FIELD_CHECKS.keys() - fields.keys())
            unknown = sorted(fields.keys() - _FIELD_CHECKS.keys())
            raise ContractError(f"contract: missing fields {missing}, unknown fields {unknown}")
        for name, check in _FIELD_CHECKS.items():
            if not check(fields[name]):
                raise ContractError(f"contract: field {name!r} is malformed: {fields[name]!r:.80}")
        cameras = {
            name: ImageSize(height=height, width=width)
            for name, (height, width) in fields.pop("cameras").items()
        }
        return Contract(cameras=cameras, **fields)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_cameras(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(size, list) and len(size) == 2 and all(_is_integer(side) for side in size)
        for size in value.values()
    )


_FIELD_CHECKS = {
    "cameras": _is_cameras,
    "arms": _is_names,
    "grippers": _is_names,
    "frame": _is_text,
    "end_effector": _is_text,
    "gripper_unit": _is_text,
    "control_rate_hz": lambda value: _is_integer(value) or isinstance(value, float),
    "uses_language": lambda value: isinstance(value, bool),
}


def differences(*, policy: Contract, station: Contract) -> list[str]:
    """Every way in which the station does not give what the policy expects; empty if it fits.

    A station may have more cameras than the policy looks at; it may not have fewer, and a policy
    must command exactly the station's arms and grippers, since an arm without a command is
    an arm that nobody answers for.
    """
    found = []
    for name, size in policy.cameras.items():
        given = station.cameras.get(name)
        if given is None:
            found.append(
                f"camera {name!r} missing: the station has {sorted(station.cameras)}; "
                f"the policy requires {sorted(policy.cameras)}{_suggestion(name, station.cameras)}"
            )
        elif given != size:
            found.append(f"camera {name!r}: the station gives {given}, the policy requires {size}")
    for label, expected, given in (
        ("arms", policy.arms, station.arms),
        ("grippers", policy.grippers, station.grippers),
    ):
        if set(expected) != set(given):
            found.append(f"{label}: the station has {sorted(given)}, the policy {sorted(expected)}")
    for label, expected, given in (
        ("frame of poses", policy.frame, station.frame),
        ("end effector", policy.end_effector, station.end_effector),
        ("gripper unit", policy.gripper_unit, station.gripper_unit),
        ("control rate in Hz", policy.control_rate_hz, station.control_rate_hz),
    ):
        if expected != given:
            found.append(f"{label}: the station uses {given!r}, the policy {expected!r}")
    if policy.uses_language and not station.uses_language:
        found.append("language: the policy needs an instruction, the station gives none")
    return found


def violations(contract: Contract, observation: Observation) -> list[str]:
    """Every way in which one observation breaks the terms of a policy; empty if it keeps them."""
    found = []
    for name, size in contract.cameras.items():
        view = observation.cameras.get(name)
        if view is None:
            found.append(
                f"camera {name!r} missing: the observation has {sorted(observation.cameras)}; "
                f"the policy requires {sorted(contract.cameras)}"
                f"{_suggestion(name, observation.cameras)}"
            )
        elif view.rgb.shape[:2] != (size.height, size.width):
            given = ImageSize(height=view.rgb.shape[0], width=view.rgb.shape[1])
            found.append(
                f"camera {name!r}: the observation has {given}, the policy requires {size}"
            )
    for state_name in ("actual", "desired"):
        found += _missing(contract, getattr(observation, state_name), f"{state_name} state")
    if contract.uses_language and observation.language_instruction is None:
        found.append("language: the policy needs an instruction, the observation has none")
    return found


def action_violations(contract: Contract, action: Action) -> list[str]:
    """Every arm or gripper of the contract that an action leaves without a command."""
    return _missing(contract, action, "action")


def _missing(contract: Contract, holder: Any, label: str) -> list[str]:
    found = []
    for kind, expected, given in (
        ("arm", contract.arms, holder.poses),
        ("gripper", contract.grippers, holder.gripper_widths_m),
    ):
        found += [
            f"{kind} {name!r} missing in the {label}: it has {sorted(given)}"
            for name in expected
            if name not in given
        ]
    return found


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
