"""What can be said of an observation undecoded: whether it keeps a contract, and how large it is.

While a chunk is executed, no plan looks at the observation, and decoding four images to look
at none would cost more than the rest of the step. What it costs to notice a camera or an arm that
disappears in the middle of an episode is a few microseconds, so that is checked at every step.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from policy_interface.codec import (
    MAX_MESSAGE_BYTES,
    ImageKey,
    images_of,
    require_few_cameras,
)
from policy_interface.contract import Contract
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import check_header, num_decoded_bytes
from policy_interface.types import InvalidValueError

# Raw images take no more than their message, but PNG shrinks a single colour to a thousandth. Room
# for four cameras of 2048 x 2048 with depth and labels, or for one of the largest that are allowed.
MAX_DECODED_BYTES = 4 * MAX_MESSAGE_BYTES


def require_room(compressed: Iterable[tuple[ImageKey, PolicyStep_pb2.Image]]) -> None:
    """Raises InvalidValueError where the images of one message would take too much memory decoded,
    or one of them can't be one."""
    num_bytes = sum(num_decoded_bytes(image, key) for key, image in compressed)
    if num_bytes > MAX_DECODED_BYTES:
        raise InvalidValueError(
            f"observation: its compressed images take {num_bytes} bytes decoded, more than the "
            f"{MAX_DECODED_BYTES} allowed in one message; send fewer or smaller ones"
        )


def check_images(message: PolicyStep_pb2.MultiarmObservation, checked: Container[ImageKey]) -> None:
    """Raises InvalidValueError for an image that can't be one, as far as can be said undecoded.

    checked: those of which this was said already.
    """
    require_few_cameras(message)
    for camera in message.visuo:
        for key, image in images_of(camera):
            if key not in checked:
                check_header(image, str(key))


def message_violations(
    contract: Contract, message: PolicyStep_pb2.MultiarmObservation
) -> list[str]:
    """Every way in which the message breaks the contract, from all but its pixels.

    `policy_interface.contract.violations` says the same of a decoded observation.
    """
    found = _camera_violations(contract, message.visuo)
    for label, state in (("actual", message.robot.actual), ("desired", message.robot.desired)):
        found += _state_violations(contract, label, state)
    if contract.uses_language and not message.use_language_instruction:
        found.append("language: the policy needs an instruction, the observation has none")
    return found


def _camera_violations(
    contract: Contract, messages: Iterable[PolicyStep_pb2.CameraImageSet]
) -> list[str]:
    if not contract.cameras:
        return []
    found = []
    given = {camera.camera_serial: camera.camera_rgb.image for camera in messages if camera.has_rgb}
    for name, size in contract.cameras.items():
        image = given.get(name)
        if image is None:
            found.append(
                f"camera {name!r} missing: the observation has {sorted(given)}; "
                f"the policy requires {sorted(contract.cameras)}"
            )
        elif (image.height, image.width) != (size.height, size.width):
            found.append(
                f"camera {name!r}: the observation has {image.width}x{image.height}, "
                f"the policy requires {size}"
            )
    return found


def _state_violations(
    contract: Contract, label: str, state: PolicyStep_pb2.PosesAndGrippers
) -> list[str]:
    poses = {arm.robot_name: (arm.pose.translation, arm.pose.rotation) for arm in state.pose_status}
    widths = {each.gripper_name: each.gripper_position for each in state.gripper_status}
    found = _missing(label, "arm", contract.arms, poses)
    found += _missing(label, "gripper", contract.grippers, widths)
    found += [
        f"{label}, arm {name!r}: expected 3 and 9 finite numbers, "
        f"got {list(translation)} and {list(rotation)}"
        for name, (translation, rotation) in poses.items()
        # A sum is finite only where all of its terms are, give or take an overflow.
        if (len(translation), len(rotation)) != (3, 9)
        or not math.isfinite(sum(translation) + sum(rotation))
    ]
    found += [
        f"{label}, gripper {name!r}: expected a finite width, got {width}"
        for name, width in widths.items()
        if not math.isfinite(width)
    ]
    return found


def _missing(label: str, kind: str, expected: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    return [
        f"{kind} {name!r} missing in the {label} state: it has {sorted(given)}"
        for name in expected
        if name not in given
    ]
