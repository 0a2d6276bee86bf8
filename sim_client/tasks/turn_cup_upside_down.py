"""TurnCupUpsideDown: the arm on the cup's side turns an upright cup over."""

from __future__ import annotations

from sim_client.manipulands.cup import Cup
from sim_client.tasks.placement import Placement
from sim_client.tasks.predicates import (
    AtRest,
    Grasped,
    Lifted,
    OnTable,
    Released,
    Upright,
)
from sim_client.tasks.task import Task

# Tall, so that a level hand that holds its middle is clear of the table, whichever end is up.
# Smooth, so that a hand that brushes past shifts it and does not topple it.
CUP = Cup(height_m=0.130, radius_m=0.029, friction=0.3)

TURN_CUP_UPSIDE_DOWN = Task(
    name="TurnCupUpsideDown",
    instructions=(
        "Turn the cup upside down.",
        "Flip the blue cup over.",
        "Put the cup on the table with its opening down.",
        "Pick up the cup, turn it over and stand it on its rim.",
    ),
    held_out_instructions=(
        "The cup should stand on its rim.",
        "Invert the blue cup.",
    ),
    objects=(CUP,),
    mirrored=True,
    placements={"cup": Placement(x_m=(-0.12, 0.04), y_m=(-0.30, -0.14))},
    milestones=(Grasped("cup"), Lifted("cup")),
    success=(Upright("cup", upside_down=True), OnTable("cup"), Released("cup"), AtRest("cup")),
    time_limit_s=25.0,
)
