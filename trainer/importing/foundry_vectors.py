"""VLA Foundry's action and proprioception vectors in our order, and their scales as ours.

Fields there are `robot__action__poses__left::panda__xyz_relative` and the like, in the order that a
configuration lists them. Ours are arm by arm, then the grippers.

Axes: K number in the original's order, D number in ours, T timestep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.normalization import NormalizationError, Normalizer
from trainer.data.robot_transform import RobotTransform, robot_layouts
from trainer.importing.errors import ImportingError
from trainer.importing.foundry_shapes import Section

_ACTION = re.compile(
    r"robot__(?:action|desired)__(?:poses__(?P<arm>.+)__(?P<part>xyz|rot_6d)_relative"
    r"|grippers__(?P<gripper>.+))"
)
_STATE = re.compile(
    r"robot__actual__(?:poses__(?P<arm>.+)__(?P<part>xyz|rot_6d)|grippers__(?P<gripper>.+))"
)
# A field whose name has one of these is never scaled there.
_NEVER_SCALED = ("text", "language", "instruction", "mask", "valid")
_METHODS = ("std", "percentile_5_95", "percentile_1_99", "min_max")
_POSE_SIZE = 9
_MAX_STEPS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """action_order, state_order: (K,), where each of the original's numbers stands in ours."""

    transform: RobotTransform
    action_order: npt.NDArray[np.int64]
    state_order: npt.NDArray[np.int64]


def vectors_of(data: Section, normalizer: Section, statistics: bytes) -> Vectors:
    """Raises ImportingError for fields or scales that ours cannot be."""
    past, future = data.get("lowdim_past_timesteps", 0), data.need("lowdim_future_timesteps")
    if not 0 <= future <= _MAX_STEPS or not 0 <= past <= _MAX_STEPS:
        raise data.unexpected(
            "lowdim_past_timesteps, lowdim_future_timesteps",
            f"0 to {_MAX_STEPS} each",
            (past, future),
        )
    actions, states = data.texts("action_fields"), data.texts("proprioception_fields")
    found = [_parsed(data, "action_fields", field, _ACTION) for field in actions]
    arms = tuple(dict.fromkeys(each["arm"] for each in found if each["arm"]))
    grippers = tuple(dict.fromkeys(each["gripper"] for each in found if each["gripper"]))
    if not arms:
        raise data.unexpected("action_fields", "an arm's poses", list(actions))
    _require_pose_groups(data, actions)
    scales = _Scales(normalizer, statistics, past)
    action_layout, state_layout = robot_layouts(arms, grippers)
    action_places = _places(data, "action_fields", actions, _ACTION, arms, grippers)
    missing = set(range(action_layout.size)) - {i for each in action_places for i in each}
    if missing:
        names = [action_layout.names[i] for i in sorted(missing)]
        raise data.unexpected("action_fields", f"{names} among them", list(actions))
    state_places = _places(data, "proprioception_fields", states, _STATE, arms, grippers)
    try:
        transform = RobotTransform(
            arms=arms,
            grippers=grippers,
            chunk_length=1 + future,
            action=scales.normalizer(
                action_layout.names, actions, action_places, past + 1 + future
            ),
            # What the network does not read stays as it is: its weights there are zero.
            proprioception=scales.normalizer(state_layout.names, states, state_places, past + 1),
        )
    except NormalizationError as error:
        raise ImportingError(f"stats.json: {error}") from error
    return Vectors(
        transform=transform,
        action_order=np.array([i for each in action_places for i in each], np.int64),
        state_order=np.array([i for each in state_places for i in each], np.int64),
    )


def _parsed(data: Section, key: str, field: str, pattern: re.Pattern[str]) -> re.Match[str]:
    match = pattern.fullmatch(field)
    if match is None:
        kinds = "relative poses" if pattern is _ACTION else "measured poses"
        raise data.unexpected(key, f"fields of {kinds} and gripper widths alone", field)
    return match


def _require_pose_groups(data: Section, actions: Sequence[str]) -> None:
    """A pose is relative as a whole where its two fields are grouped; else each is by itself."""
    groups = data.fields.get("pose_groups") or []
    keys = {
        group.get(key)
        for group in (groups if isinstance(groups, list) else [])
        if isinstance(group, dict)
        for key in ("position_key", "rotation_key")
    }
    for field in actions:
        if field.endswith("_relative") and field.removesuffix("_relative") not in keys:
            raise data.unexpected("pose_groups", f"a group with {field!r}", groups)


def _places(
    data: Section,
    key: str,
    fields: Sequence[str],
    pattern: re.Pattern[str],
    arms: Sequence[str],
    grippers: Sequence[str],
) -> list[range]:
    """Where each field's numbers stand in ours."""
    found = []
    for field in fields:
        match = _parsed(data, key, field, pattern)
        owner = match["arm"] or match["gripper"]
        if owner not in (arms if match["arm"] else grippers):
            raise data.unexpected(key, f"what is moved alone ({[*arms, *grippers]})", field)
        if match["gripper"]:
            start = _POSE_SIZE * len(arms) + grippers.index(owner)
            found.append(range(start, start + 1))
            continue
        start = _POSE_SIZE * arms.index(owner)
        found.append(
            range(start, start + 3) if match["part"] == "xyz" else range(start + 3, start + 9)
        )
    numbers = [i for each in found for i in each]
    if len(set(numbers)) != len(numbers):
        raise data.unexpected(key, "each field once", list(fields))
    return found


class _Scales:
    """Centers and scales as the original's normaliser computes them, in float32 as it does."""

    def __init__(self, normalizer: Section, statistics: bytes, past: int) -> None:
        self._normalizer, self._past = normalizer, past
        try:
            self._statistics = json.loads(statistics)
        except (ValueError, RecursionError) as error:
            raise ImportingError(f"stats.json: not JSON: {error}") from error
        # Statistics of several data sets would have to be merged; a release has them merged.
        if not isinstance(self._statistics, dict):
            raise ImportingError("stats.json: expected an object of fields")
        self._included = normalizer.texts("include_fields")
        self._is_centered = (
            normalizer.get("centered_norm", False) or self._method(normalizer) == "std"
        )

    def normalizer(
        self, names: tuple[str, ...], fields: Sequence[str], places: Sequence[range], steps: int
    ) -> Normalizer:
        """Of `steps` timesteps, of which `past` are before the anchor."""
        center, scale = np.zeros((steps, len(names))), np.ones((steps, len(names)))
        for field, place in zip(fields, places, strict=True):
            columns = slice(place.start, place.stop)
            field_center, field_scale = self._of(field, len(place), steps)
            center[:, columns], scale[:, columns] = field_center, field_scale
        return Normalizer(names=names, center=center, scale=scale, first_step=-self._past)

    def _of(self, field: str, size: int, steps: int) -> tuple[FloatArray, FloatArray]:
        """(size,) each, or (steps, size)."""
        config = self._config(field)
        is_scaled = (
            self._normalizer.get("enabled", True)
            and config.get("enabled", True)
            and field in self._included
            and not any(word in field.lower() for word in _NEVER_SCALED)
        )
        if not is_scaled:
            return np.zeros(size), np.ones(size)
        method = self._method(config)
        scope = config.require("scope", "global", "global", "per_timestep")
        suffix = "" if scope == "global" else "_per_timestep"

        def numbers(name: str) -> npt.NDArray[np.float32]:
            return self._numbers(field, name + suffix, size, steps if suffix else None)

        if method == "std":
            center, scale = numbers("mean"), numbers("std")
        else:
            low, high = {
                "min_max": ("min", "max"),
                "percentile_5_95": ("percentile_5", "percentile_95"),
                "percentile_1_99": ("percentile_1", "percentile_99"),
            }[method]
            center, scale = numbers(low), numbers(high) - numbers(low)
            if self._is_centered:
                half = np.float32(0.5)
                center, scale = center + half * scale, scale * half
        floor = np.float32(config.number("epsilon", 1e-8))
        return center.astype(np.float64), np.maximum(scale, floor).astype(np.float64)

    def _numbers(
        self, field: str, name: str, size: int, steps: int | None
    ) -> npt.NDArray[np.float32]:
        """(size,), or (steps, size) about the anchor."""
        known = self._statistics.get(field)
        if not isinstance(known, Mapping) or name not in known:
            raise ImportingError(f"stats.json.{field}: no {name}")
        try:
            array = np.asarray(known[name], dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise ImportingError(f"stats.json.{field}.{name}: expected numbers") from error
        if steps is None:
            expected: tuple[int, ...] = (size,)
        else:
            # Of as many steps they are taken as they are, whichever of them is the anchor.
            if array.ndim == 2 and len(array) != steps:
                start = self._normalizer.need("lowdim_past_timesteps") - self._past
                array = array[start : start + steps] if start >= 0 else array[:0]
            expected = (steps, size)
        if array.shape != expected or not np.isfinite(array).all():
            raise ImportingError(
                f"stats.json.{field}.{name}: expected finite numbers of shape {expected} about "
                f"the anchor, got {array.shape}"
            )
        return array

    def _config(self, field: str) -> Section:
        """That of the field, else of the first whose name is a part of its own, else of all."""
        parts = self._normalizer.part("field_configs")
        names = [field, *parts.fields]
        for name in names:
            if isinstance(name, str) and name in field and name in parts.fields:
                return parts.part(name)
        return self._normalizer

    def _method(self, config: Section) -> Any:
        return config.require("method", "std", *_METHODS)
