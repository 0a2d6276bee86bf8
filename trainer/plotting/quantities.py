"""What the scalars of a run are called, and how they are best looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

TRAINING, HELD_OUT, IN_SIMULATION, PACE = "Training", "Held out", "In simulation", "Pace"
HELD_OUT_BY_ACTION = "Held out, by action of a plan"
SECTIONS = (TRAINING, HELD_OUT, HELD_OUT_BY_ACTION, IN_SIMULATION, PACE)

_AT_ACTION = re.compile(r"(validation/\w+)_at_action_(\d+)(_[a-z]+)")

_UNITS_BY_ENDING = {
    "_mm": "mm",
    "_m": "m",
    "_deg": "deg",
    "_rad": "rad",
    "_per_s": "1/s",
    "_s": "s",
    "_gib": "GiB",
}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """is_noisy: a smoothed curve says more than the raw one."""

    section: str
    title: str
    unit: str = ""
    is_noisy: bool = False
    may_be_logarithmic: bool = False
    less_is_better: bool = False


_KNOWN = {
    "train/loss": Quantity(
        section=TRAINING, title="Loss", is_noisy=True, may_be_logarithmic=True, less_is_better=True
    ),
    "train/gradient_norm": Quantity(
        section=TRAINING, title="Gradient norm", is_noisy=True, may_be_logarithmic=True
    ),
    "train/learning_rate": Quantity(section=TRAINING, title="Learning rate"),
    "train/skipped_steps": Quantity(section=TRAINING, title="Steps left out"),
    "validation/position_mm": Quantity(
        section=HELD_OUT, title="Position error over all windows", unit="mm", less_is_better=True
    ),
    "validation/position_with_other_images_mm": Quantity(
        section=HELD_OUT, title="Position error with other images", unit="mm"
    ),
    "validation/position_with_other_words_mm": Quantity(
        section=HELD_OUT, title="Position error with another task's words", unit="mm"
    ),
    "validation/rotation_deg": Quantity(
        section=HELD_OUT, title="Rotation error over all windows", unit="deg", less_is_better=True
    ),
    "validation/gripper_mm": Quantity(
        section=HELD_OUT, title="Gripper error over all windows", unit="mm", less_is_better=True
    ),
    "validation/loss": Quantity(
        section=HELD_OUT, title="Loss", may_be_logarithmic=True, less_is_better=True
    ),
    "validation/perplexity": Quantity(
        section=HELD_OUT, title="Perplexity", may_be_logarithmic=True, less_is_better=True
    ),
    "train/samples_per_s": Quantity(section=PACE, title="Samples per second", is_noisy=True),
    "train/tokens_per_s": Quantity(section=PACE, title="Tokens per second", is_noisy=True),
    "train/prompt_tokens_per_s": Quantity(
        section=PACE, title="Tokens of prompts per second", is_noisy=True
    ),
    "train/expert_tokens_per_s": Quantity(
        section=PACE, title="Tokens of the expert per second", is_noisy=True
    ),
    "train/mfu": Quantity(section=PACE, title="Model FLOPs utilization", is_noisy=True),
    "train/memory_gib": Quantity(section=PACE, title="Most memory held", unit="GiB"),
}


def quantity_of(name: str) -> Quantity:
    """Of a scalar; one that is not known goes by its name."""
    if name in _KNOWN:
        return _KNOWN[name]
    at_action = _AT_ACTION.fullmatch(name)
    if at_action:
        whole = quantity_of(at_action[1] + at_action[3])
        return replace(
            whole, section=HELD_OUT_BY_ACTION, title=f"{whole.title} at action {at_action[2]}"
        )
    group, _, rest = name.partition("/")
    if rest.startswith("loss_"):
        # Of one of several data, whose name may be a path.
        whole = _KNOWN[f"{group}/loss"] if f"{group}/loss" in _KNOWN else _KNOWN["train/loss"]
        return replace(whole, title=f"Loss of {rest.removeprefix('loss_')}")
    group, _, rest = name.rpartition("/")
    if group.startswith("evaluation/"):
        # Of one of several tasks; rates, and the bounds of their intervals.
        what = rest.replace("_", " ").capitalize()
        return Quantity(section=IN_SIMULATION, title=f"{what}, {group.partition('/')[2]}")
    unit = ""
    for ending, of_ending in _UNITS_BY_ENDING.items():
        if rest.endswith(ending) and rest != ending:
            rest, unit = rest.removesuffix(ending), of_ending
            break
    section = HELD_OUT if group.startswith("validation") else TRAINING
    return Quantity(section=section, title=(rest or name).replace("_", " ").capitalize(), unit=unit)


def in_order(names: set[str]) -> list[str]:
    """By section; those that are known first, as told above; actions as they follow each other."""
    known = list(_KNOWN)

    def place(name: str) -> tuple[int, int, str, int]:
        at_action, number = _AT_ACTION.fullmatch(name), 0
        section = SECTIONS.index(quantity_of(name).section)
        if at_action:
            name, number = at_action[1] + at_action[3], int(at_action[2])
        rank = known.index(name) if name in _KNOWN else len(known)
        return section, rank, name, number

    return sorted(names, key=place)
