"""LBM Eval's observation and action, as far as the stand-in's client and scene use them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydrake.math import RigidTransform


@dataclass
class PosesAndGrippers:
    poses: dict[str, RigidTransform]
    grippers: dict[str, float]


@dataclass
class PosesAndGrippersActualAndDesired:
    actual: PosesAndGrippers
    desired: PosesAndGrippers


@dataclass
class MultiarmObservation:
    robot: PosesAndGrippersActualAndDesired
    visuo: dict[str, object] = field(default_factory=dict)
    language_instruction: str | None = None
