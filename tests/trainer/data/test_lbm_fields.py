"""Names of LBM Eval's fields; the names are those of released shards and episodes."""

from __future__ import annotations

import pytest

from trainer.data.formats.lbm_fields import lbm_field


@pytest.mark.parametrize(
    ("name", "kind", "role", "unit", "part"),
    [
        ("robot__actual__poses__right::panda__xyz", "translation", "observed", "m", "right::panda"),
        (
            "robot__action__poses__left::panda__rot_6d",
            "rotation_6d_rows",
            "action",
            None,
            "left::panda",
        ),
        (
            "robot__desired__grippers__left::panda_hand",
            "gripper",
            "desired",
            "m",
            "left::panda_hand",
        ),
        (
            "robot__actual__joint_torque_external__right::panda",
            "joint_torque",
            "observed",
            "N*m",
            "right::panda",
        ),
        (
            "robot__desired__joint_velocity__left::panda",
            "joint_velocity",
            "desired",
            "rad/s",
            "left::panda",
        ),
        ("robot__actual__external_wrench__left::panda", "wrench", "observed", None, "left::panda"),
        ("robot__version", "vector", "other", None, None),
        ("observation.state", "vector", "other", None, None),
    ],
)
def test_name_tells_what_a_field_is(
    name: str, kind: str, role: str, unit: str | None, part: str | None
) -> None:
    field = lbm_field(name, (3,), "float64")
    assert (field.kind, field.role, field.unit, field.part) == (kind, role, unit, part)
    assert (field.shape, field.dtype) == ((3,), "float64")
