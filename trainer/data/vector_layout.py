"""Action and proprioception vectors, declared: which fields, in which order, written how.

A declaration names fields; `resolve` holds it against the fields that data has, and only then can
it encode and decode. What one embodiment lacks is padded, and `mask` says which numbers are real.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.vector_components import Component, Fields, Values, component_from_fields


@dataclass(frozen=True, kw_only=True)
class VectorLayout:
    """components: in the vector's order. padded_to: numbers in all, zeros at the end, or None."""

    components: tuple[Component, ...]
    padded_to: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", tuple(self.components))
        if not self.components:
            raise DataError("vector: expected at least one component, got none")

    def resolve(self, fields: Mapping[str, Field]) -> ResolvedLayout:
        """Raises DataError, suggesting near names, for fields that are missing or do not fit."""
        for name in self.field_names:
            if name not in fields:
                close = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise DataError(f"no such field{hint}; there are {sorted(fields)}", field=name)
        numbers = [component.number_names(fields) for component in self.components]
        names = tuple(name for each in numbers for name in each)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"vector: numbers that occur twice: {twice}")
        if self.padded_to is not None and self.padded_to < len(names):
            raise DataError(
                f"vector: expected at most {self.padded_to} numbers, which it is padded to, "
                f"got {len(names)}"
            )
        width = len(names) if self.padded_to is None else self.padded_to
        padding = tuple(f"padding/{i}" for i in range(len(names), width))
        ends = np.cumsum([0, *map(len, numbers)])
        return ResolvedLayout(
            layout=self,
            fields={name: fields[name] for name in self.field_names},
            names=names + padding,
            slices=tuple(slice(int(a), int(b)) for a, b in pairwise(ends)),
        )

    @property
    def field_names(self) -> tuple[str, ...]:
        """All that it reads, each once."""
        return tuple(dict.fromkeys((*self.source_fields, *self.reference_fields)))

    @property
    def source_fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for c in self.components for name in c.source_fields))

    @property
    def reference_fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for c in self.components for name in c.reference_fields))

    def to_fields(self) -> dict[str, Any]:
        return {
            "components": [component.to_fields() for component in self.components],
            "padded_to": self.padded_to,
        }

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> VectorLayout:
        """Raises DataError for anything but what `to_fields` gave."""
        try:
            return VectorLayout(
                components=tuple(component_from_fields(each) for each in fields["components"]),
                padded_to=fields["padded_to"],
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"vector: malformed layout: {error!r}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedLayout:
    """A layout and the fields that it found. names: (D,), the padding's included."""

    layout: VectorLayout
    fields: Fields
    names: tuple[str, ...]
    slices: tuple[slice, ...]

    @property
    def size(self) -> int:
        """D."""
        return len(self.names)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(D,), False where the number is padding."""
        return np.arange(self.size) < self.slices[-1].stop

    def encode(self, values: Values, anchor: Values) -> FloatArray:
        """Fields' values (..., W, *shape), and (..., *shape) at the anchor, to (..., W, D)."""
        parts = [c.encode(values, anchor, self.fields) for c in self.layout.components]
        missing = self.size - self.slices[-1].stop
        padding = np.zeros((*parts[0].shape[:-1], missing))
        return np.concatenate([*parts, padding], axis=-1)

    def decode(self, numbers: npt.ArrayLike, anchor: Values) -> dict[str, FloatArray]:
        """The inverse of `encode`, by source field. Raises DataError for another width.

        Raises InvalidValueError where six numbers make no rotation.
        """
        array = np.asarray(numbers, dtype=np.float64)
        if array.shape[-1:] != (self.size,):
            raise DataError(f"vector: expected {self.size} numbers, got shape {array.shape}")
        decoded: dict[str, FloatArray] = {}
        for component, place in zip(self.layout.components, self.slices, strict=True):
            for name, values in component.decode(array[..., place], anchor, self.fields).items():
                # Several components may each give some columns of one field.
                before = decoded.get(name)
                decoded[name] = (
                    values if before is None else np.where(np.isnan(before), values, before)
                )
        return decoded


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """What a policy predicts and what it knows of its body."""

    action: VectorLayout
    proprioception: VectorLayout

    @property
    def field_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.action.field_names, *self.proprioception.field_names)))
