"""Parts of an action or proprioception vector: from a field's numbers to the vector's, and back.

Each says which fields it needs, how many numbers it gives and what they are called, encodes
windows of the fields' values, and decodes them by the same parameters.

Axes: ... any leading ones, W step of the window. A field's values have shape (..., W, *shape) and,
at the anchor, (..., *shape).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.poses import PoseFields, inverse_poses, make_poses
from trainer.data.rotation_layouts import (
    ROTATION_NAMES,
    RotationLayout,
    rotation_from_numbers,
    rotation_to_numbers,
)

Fields = Mapping[str, Field]
Values = Mapping[str, npt.NDArray[Any]]

JointMode = Literal["absolute", "delta_to_anchor", "delta_to_previous"]


@dataclass(frozen=True, kw_only=True)
class Component(ABC):
    """name: begins the names of its numbers, such as an arm's."""

    kind: ClassVar[str]

    name: str

    @property
    @abstractmethod
    def source_fields(self) -> tuple[str, ...]:
        """Read over the window, and given back by `decode`."""

    @property
    def reference_fields(self) -> tuple[str, ...]:
        """Read at the anchor, which encoding and decoding both need."""
        return ()

    @abstractmethod
    def number_names(self, fields: Fields) -> tuple[str, ...]:
        """One a number. Raises DataError for fields that do not fit."""

    @abstractmethod
    def encode(self, values: Values, anchor: Values, fields: Fields) -> FloatArray:
        """(..., W, numbers)."""

    @abstractmethod
    def decode(self, numbers: FloatArray, anchor: Values, fields: Fields) -> dict[str, FloatArray]:
        """The source fields' values, from `encode`'s numbers."""

    def to_fields(self) -> dict[str, Any]:
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class PoseNumbers(Component):
    """x, y, z, then six of the rotation.

    relative_to: the same arm's measured pose; numbers are then of inverse(X at the anchor) @ X, a
    motion in the end effector's own frame that does not depend on where the table is. The anchor
    is one for the whole window, so that targets do not drift with what is observed later.
    """

    kind: ClassVar[str] = "pose"

    pose: PoseFields
    relative_to: PoseFields | None = None
    rotation: RotationLayout = "rows"

    @property
    def source_fields(self) -> tuple[str, ...]:
        return self.pose.names

    @property
    def reference_fields(self) -> tuple[str, ...]:
        return () if self.relative_to is None else self.relative_to.names

    def number_names(self, fields: Fields) -> tuple[str, ...]:
        self.pose.check(fields)
        if self.relative_to is not None:
            self.relative_to.check(fields)
        return tuple(
            f"{self.name}/{number}"
            for number in ("x_m", "y_m", "z_m", *ROTATION_NAMES[self.rotation])
        )

    def encode(self, values: Values, anchor: Values, fields: Fields) -> FloatArray:
        poses = self.pose.join(values, fields)
        if self.relative_to is not None:
            reference = self.relative_to.join(anchor, fields)
            poses = inverse_poses(reference)[..., None, :, :] @ poses
        rotation = rotation_to_numbers(poses[..., :3, :3], self.rotation)
        return np.concatenate([poses[..., :3, 3], rotation], axis=-1)

    def decode(self, numbers: FloatArray, anchor: Values, fields: Fields) -> dict[str, FloatArray]:
        rotation = rotation_from_numbers(numbers[..., 3:], self.rotation)
        poses = make_poses(rotation, numbers[..., :3])
        if self.relative_to is not None:
            poses = self.relative_to.join(anchor, fields)[..., None, :, :] @ poses
        return self.pose.split(poses, fields)


@dataclass(frozen=True, kw_only=True)
class GripperNumbers(Component):
    """A gripper's opening, as it is or mapped from one range to another.

    closed, open: the field's values there, whichever is greater: this is where polarity is said.
    Both None leaves the numbers alone. encoded_closed, encoded_open: what they become. Nothing
    is clipped.
    """

    kind: ClassVar[str] = "gripper"

    field: str
    closed: float | None = None
    open: float | None = None
    encoded_closed: float = 0.0
    encoded_open: float = 1.0

    def __post_init__(self) -> None:
        if (self.closed is None) != (self.open is None):
            raise DataError("expected both closed and open, or neither", field=self.field)
        if self.encoded_closed == self.encoded_open or (
            self.closed is not None and self.closed == self.open
        ):
            raise DataError("expected closed and open to differ", field=self.field)

    @property
    def source_fields(self) -> tuple[str, ...]:
        return (self.field,)

    def number_names(self, fields: Fields) -> tuple[str, ...]:
        field = fields[self.field]
        if field.size != 1:
            raise DataError(f"expected one number a step, got {field.size}", field=self.field)
        metric = self.closed is None and field.unit == "m"
        return (f"{self.name}/{'width_m' if metric else 'opening'}",)

    def encode(self, values: Values, anchor: Values, fields: Fields) -> FloatArray:
        del anchor
        raw = _flat(values[self.field], fields[self.field])
        if self.closed is None or self.open is None:
            return raw
        fraction = (raw - self.closed) / (self.open - self.closed)
        return self.encoded_closed + fraction * (self.encoded_open - self.encoded_closed)

    def decode(self, numbers: FloatArray, anchor: Values, fields: Fields) -> dict[str, FloatArray]:
        del anchor
        if self.closed is not None and self.open is not None:
            span = self.encoded_open - self.encoded_closed
            numbers = self.closed + (numbers - self.encoded_closed) / span * (
                self.open - self.closed
            )
        return {self.field: _shaped(numbers, fields[self.field])}


@dataclass(frozen=True, kw_only=True)
class JointNumbers(Component):
    """Joint positions.

    mode: "absolute"; "delta_to_anchor", from `reference` as measured at the anchor; or
    "delta_to_previous", from the step before, the window's first step from that reference.
    wraps: joints turn without end, so that deltas lie in -pi to pi and a decoded position is
    right up to whole turns.
    """

    kind: ClassVar[str] = "joints"

    field: str
    mode: JointMode = "absolute"
    reference: str | None = None
    wraps: bool = False

    def __post_init__(self) -> None:
        if (self.mode == "absolute") != (self.reference is None):
            raise DataError(
                "expected a reference for deltas, and none for absolute positions",
                field=self.field,
            )

    @property
    def source_fields(self) -> tuple[str, ...]:
        return (self.field,)

    @property
    def reference_fields(self) -> tuple[str, ...]:
        return () if self.reference is None else (self.reference,)

    def number_names(self, fields: Fields) -> tuple[str, ...]:
        field = fields[self.field]
        if self.reference is not None and fields[self.reference].size != field.size:
            raise DataError(
                f"expected {field.size} numbers, as many as {self.field!r} has, "
                f"got {fields[self.reference].size}",
                field=self.reference,
            )
        numbers = field.names or tuple(f"joint_{i}" for i in range(field.size))
        return tuple(f"{self.name}/{number}" for number in numbers)

    def encode(self, values: Values, anchor: Values, fields: Fields) -> FloatArray:
        positions = _flat(values[self.field], fields[self.field])
        if self.reference is None:
            return positions
        reference = _flat(anchor[self.reference], fields[self.reference])[..., None, :]
        if self.mode == "delta_to_anchor":
            deltas = positions - reference
        else:
            deltas = np.diff(np.concatenate([reference, positions], axis=-2), axis=-2)
        return (deltas + np.pi) % (2 * np.pi) - np.pi if self.wraps else deltas

    def decode(self, numbers: FloatArray, anchor: Values, fields: Fields) -> dict[str, FloatArray]:
        if self.reference is not None:
            reference = _flat(anchor[self.reference], fields[self.reference])[..., None, :]
            cumulative = self.mode == "delta_to_previous"
            numbers = reference + (np.cumsum(numbers, axis=-2) if cumulative else numbers)
        return {self.field: _shaped(numbers, fields[self.field])}


@dataclass(frozen=True, kw_only=True)
class FieldNumbers(Component):
    """A field's numbers as they are: all of them, or the `columns` named."""

    kind: ClassVar[str] = "field"

    field: str
    columns: tuple[int, ...] | None = None

    @property
    def source_fields(self) -> tuple[str, ...]:
        return (self.field,)

    def number_names(self, fields: Fields) -> tuple[str, ...]:
        field = fields[self.field]
        numbers = field.names or tuple(map(str, range(field.size)))
        columns = range(field.size) if self.columns is None else self.columns
        for column in columns:
            if not 0 <= column < field.size:
                raise DataError(
                    f"expected columns from 0 to {field.size - 1}, got {column}", field=self.field
                )
        return tuple(f"{self.name}/{numbers[column]}" for column in columns)

    def encode(self, values: Values, anchor: Values, fields: Fields) -> FloatArray:
        del anchor
        flat = _flat(values[self.field], fields[self.field])
        return flat if self.columns is None else flat[..., list(self.columns)]

    def decode(self, numbers: FloatArray, anchor: Values, fields: Fields) -> dict[str, FloatArray]:
        """Columns that were left out come back as NaN: nothing is known of them."""
        del anchor
        field = fields[self.field]
        if self.columns is not None:
            full = np.full((*numbers.shape[:-1], field.size), np.nan)
            full[..., list(self.columns)] = numbers
            numbers = full
        return {self.field: _shaped(numbers, field)}


def component_from_fields(fields: Mapping[str, Any]) -> Component:
    """What `to_fields` gave. Raises DataError for anything else."""
    kinds: dict[str, type[Component]] = {
        each.kind: each for each in (PoseNumbers, GripperNumbers, JointNumbers, FieldNumbers)
    }
    given = dict(fields)
    kind = given.pop("kind", None)
    if kind not in kinds:
        raise DataError(f"vector: unknown kind of numbers {kind!r}; there are {', '.join(kinds)}")
    for name in ("pose", "relative_to"):
        if given.get(name) is not None:
            given[name] = PoseFields(**given[name])
    if given.get("columns") is not None:
        given["columns"] = tuple(given["columns"])
    try:
        return kinds[kind](**given)
    except TypeError as error:
        raise DataError(f"vector: malformed numbers of kind {kind!r}: {error}") from error


def _flat(values: npt.NDArray[Any], field: Field) -> FloatArray:
    """(..., *shape) to (..., size)."""
    leading = values.shape[: values.ndim - len(field.shape)]
    return np.asarray(values, dtype=np.float64).reshape(*leading, field.size)


def _shaped(numbers: FloatArray, field: Field) -> FloatArray:
    return numbers.reshape(*numbers.shape[:-1], *field.shape)
