"""Every check, in the order in which findings of one severity are told."""

from __future__ import annotations

from trainer.data.doctor.check import Check
from trainer.data.doctor.content import DuplicateEpisodes
from trainer.data.doctor.exposure import Exposure
from trainer.data.doctor.frozen_fields import FrozenFields
from trainer.data.doctor.grippers import GripperPolarity, GripperUnit
from trainer.data.doctor.idle_steps import IdleSteps
from trainer.data.doctor.jumps import JointJumps, PositionJumps
from trainer.data.doctor.language import Language
from trainer.data.doctor.lengths import TooShort
from trainer.data.doctor.normalization_range import NormalizationRange
from trainer.data.doctor.not_finite import NotFinite
from trainer.data.doctor.repeated_frames import RepeatedFrames
from trainer.data.doctor.rotations import Orthonormality, RotationJumps, RotationLayout
from trainer.data.doctor.schema import Schema
from trainer.data.doctor.step_lag import StepLag
from trainer.data.doctor.success import Success
from trainer.data.doctor.swapped_cameras import SwappedCameras
from trainer.data.doctor.timing import Timing

CHECKS: tuple[type[Check], ...] = (
    Schema,
    NotFinite,
    FrozenFields,
    Timing,
    StepLag,
    GripperPolarity,
    GripperUnit,
    Orthonormality,
    RotationLayout,
    RotationJumps,
    PositionJumps,
    JointJumps,
    NormalizationRange,
    RepeatedFrames,
    Exposure,
    SwappedCameras,
    IdleSteps,
    TooShort,
    DuplicateEpisodes,
    Success,
    Language,
)


def all_checks() -> list[Check]:
    """Fresh ones: a check keeps what it saw."""
    return [check() for check in CHECKS]
