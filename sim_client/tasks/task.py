"""What a task is: a declaration of objects, where they start, and what success means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from sim_client.manipulands.manipuland import Manipuland
from sim_client.tasks.placement import Layout, Placement, sample_layout
from sim_client.tasks.preconditions import Precondition
from sim_client.tasks.predicates import Measure, Predicate
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import SceneState, fell_off_table

MAX_LAYOUT_ATTEMPTS = 500


class NoLayoutError(RuntimeError):
    """The task's own bounds leave (almost) no room for a valid scene."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the station. It holds no state; a `TaskMonitor` follows an episode.

    name: CamelCase, as in LBM Eval. instructions: the phrasings that a policy may read, drawn from
    the seed; held_out_instructions: others, never in demonstrations.
    placements: by object, supports before what stands on them. mirrored: half of the scenarios are
    the mirror image (y and yaw with the other sign), on the other arm's side.
    success: all of these, for hold_time_s without a break. failure: any of these ends the episode,
    as does an object that leaves the table. milestones: steps on the way, for the progress score.
    time_limit_s: an episode without success by then is a timeout.
    """

    name: str
    instructions: tuple[str, ...]
    held_out_instructions: tuple[str, ...] = ()
    objects: tuple[Manipuland, ...]
    placements: Mapping[str, Placement]
    mirrored: bool = False
    preconditions: tuple[Precondition, ...] = ()
    success: tuple[Predicate, ...]
    failure: tuple[Predicate, ...] = ()
    milestones: tuple[Predicate, ...] = ()
    hold_time_s: float = 0.5
    time_limit_s: float
    bimanual: bool = field(default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "placements", MappingProxyType(dict(self.placements)))
        names = [item.name for item in self.objects]
        if len(set(names)) != len(names) or set(names) != set(self.placements):
            raise ValueError(
                f"{self.name}: expected one placement for each of {names}, "
                f"got {list(self.placements)}"
            )
        if not self.instructions or not self.success:
            raise ValueError(f"{self.name}: needs an instruction and a predicate of success")
        labels = [predicate.label for predicate in (*self.success, *self.milestones)]
        if len(set(labels)) != len(labels):
            raise ValueError(f"{self.name}: a predicate stands twice among {labels}")

    @property
    def instruction(self) -> str:
        """The first of its phrasings."""
        return self.instructions[0]

    @cached_property
    def objects_by_name(self) -> Mapping[str, Manipuland]:
        return MappingProxyType({item.name: item for item in self.objects})

    def sample_layout(self, seed: int, *, attempt: int = 0) -> Layout:
        """The scene that `seed` stands for; a later attempt where earlier ones were rejected.

        Raises NoLayoutError where nothing valid is found.
        """
        mirrored = self.mirrored and bool(stream(seed, "mirrored").random() < 0.5)
        for draw in range(MAX_LAYOUT_ATTEMPTS):
            layout = sample_layout(
                self.objects_by_name,
                self.placements,
                seed,
                # Of different attempts' draws no two are the same.
                attempt=attempt * MAX_LAYOUT_ATTEMPTS + draw,
                mirrored=mirrored,
            )
            if self.is_valid(layout):
                return layout
        raise NoLayoutError(
            f"{self.name}: no valid layout in {MAX_LAYOUT_ATTEMPTS} draws of seed {seed}; "
            "its bounds leave too little room"
        )

    def is_valid(self, layout: Layout) -> bool:
        return all(each.holds(layout, self.objects_by_name) for each in self.preconditions)

    def measure(self, state: SceneState) -> Mapping[str, Measure]:
        """Every predicate of success and every milestone, by label, at this instant."""
        return {
            predicate.label: predicate.measure(state, self.objects_by_name)
            for predicate in (*self.success, *self.milestones)
        }

    def is_solved(self, state: SceneState) -> bool:
        """Whether all that success asks for is true at this instant."""
        return all(each.measure(state, self.objects_by_name).holds for each in self.success)

    def is_lost(self, state: SceneState) -> bool:
        """Whether it can no longer be done."""
        return any(fell_off_table(X_TO) for X_TO in state.poses.values()) or any(
            each.measure(state, self.objects_by_name).holds for each in self.failure
        )
