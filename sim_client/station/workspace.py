"""What is given of the cell: where arms and table are, in the task frame T, and its time step."""

from __future__ import annotations

from collections.abc import Mapping

SIDES = ("right", "left")

BASE_POSITIONS_M: Mapping[str, tuple[float, float, float]] = {
    "right": (-0.52, -0.30, 0.0),
    "left": (-0.52, 0.30, 0.0),
}
"""The arms' bases; both face along x."""

TABLE_SIZE_M = (0.92, 1.50, 0.05)
TABLE_CENTRE_X_M = 0.07

REACH_M = 0.74
"""From an arm's base, seen from above, to where it still works with the tool pointing down."""

TIME_STEP_S = 0.01
"""Of the physics. With the lagged convex approximation and hydroelastic patches it is the longest
at which grasps hold; SAP diverges at it, and TAMSI ignores the joints' PD control."""
