"""How an evaluation's scenes differ from those of the demonstrations, in LBM Eval's levels.

    Shift.parse("lighting=high,camera=medium")
    Shift.parse("unseen-looks,action_delay=low")

What a level means in numbers is in `shift_draws`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal, get_args

from policy_interface.contract import ContractError

Level = Literal["disabled", "low", "medium", "high"]
LEVELS: tuple[Level, ...] = get_args(Level)


class ShiftError(ContractError):
    """No distribution shift: an unknown name or level, or one that is given twice."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A level for each thing that can differ; what is disabled is as in the demonstrations.

    lighting: places, intensities and colours of the lights. textures: colours of the table, the
    floor, the background and, less, of the task's objects. camera: where the cameras are.
    distractors: other objects on the table. object_size: one factor for a task's objects.
    mass: a factor for each object. placement: wider ranges. table_height: of the table over the
    arms' bases. action_delay: control steps until an action takes effect. observation_noise: on
    images and proprioception. phrasing: instructions that no demonstration has.
    """

    lighting: Level = "disabled"
    textures: Level = "disabled"
    camera: Level = "disabled"
    distractors: Level = "disabled"
    object_size: Level = "disabled"
    mass: Level = "disabled"
    placement: Level = "disabled"
    table_height: Level = "disabled"
    action_delay: Level = "disabled"
    observation_noise: Level = "disabled"
    phrasing: Level = "disabled"

    def __post_init__(self) -> None:
        for name, level in self.levels().items():
            if level not in LEVELS:
                raise ShiftError(
                    f"{name}={level}: expected one of {list(LEVELS)}{_suggestion(level, LEVELS)}"
                )

    def levels(self) -> dict[str, Level]:
        """Every name with its level, as JSON can keep it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __str__(self) -> str:
        """The text that `parse` makes this of: what is enabled, in the order of the fields."""
        enabled = {name: level for name, level in self.levels().items() if level != "disabled"}
        return ",".join(f"{name}={level}" for name, level in enabled.items())

    @staticmethod
    def parse(text: str) -> Shift:
        """From names with levels and at most one named split, separated by commas; may be empty.

        Raises ShiftError.
        """
        shift, given = Shift(), set[str]()
        for part in (part.strip() for part in text.split(",")):
            if not part:
                continue
            name, equals, level = (piece.strip() for piece in part.partition("="))
            if not equals and name in SPLITS:
                changes = {
                    key: value
                    for key, value in SPLITS[name].levels().items()
                    if value != "disabled"
                }
            elif equals and name in shift.levels():
                changes = {name: level}
            else:
                known = list(shift.levels()) if equals else [*SPLITS, *shift.levels()]
                raise ShiftError(
                    f"unknown shift {part!r}: expected NAME=LEVEL with NAME one of "
                    f"{list(shift.levels())}, or one of the splits {list(SPLITS)}"
                    f"{_suggestion(name, known)}"
                )
            twice = sorted(given & changes.keys())
            if twice:
                raise ShiftError(f"shift {text!r}: {', '.join(twice)} is given twice")
            given |= changes.keys()
            shift = replace(shift, **changes)
        return shift

    @staticmethod
    def from_levels(levels: Mapping[str, str]) -> Shift:
        """The inverse of `levels`. Raises ShiftError."""
        return Shift.parse(",".join(f"{name}={level}" for name, level in levels.items()))


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


SPLITS: Mapping[str, Shift] = MappingProxyType(
    {
        "unseen-looks": Shift(lighting="high", textures="high", camera="medium"),
        "unseen-objects": Shift(object_size="high", mass="high", distractors="medium"),
        "unseen-layouts": Shift(placement="high", table_height="medium"),
        "unseen-dynamics": Shift(mass="high", action_delay="medium", observation_noise="medium"),
        "unseen-words": Shift(phrasing="high"),
        "unseen-all": Shift(
            lighting="medium",
            textures="medium",
            camera="medium",
            distractors="medium",
            object_size="medium",
            mass="medium",
            placement="medium",
            table_height="medium",
            action_delay="low",
            observation_noise="medium",
            phrasing="high",
        ),
    }
)
"""Combinations that no demonstration has, by name."""
