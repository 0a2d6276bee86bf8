"""LBM Eval's 49 skills, and the ways of naming them.

Names and stations are those of LBM Eval 1.1.0. Its time limits are in its scenarios; those here
were read off the rollouts released with VLA Foundry, where a timeout tells the limit.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

from sim_client.evaluation.errors import UsageError

_CABOT = """
    DumpVegetablesFromSmallToLargeContainer PickAndPlaceBox PlaceCupByCoaster PlaceCupOnCoaster
    PushCoasterToCenterOfTable PushCoasterToMug PutBananaInCenterOfTable PutBananaOnSaucer
    PutContainersOnPlate PutCupInCenterOfTable PutCupOnSaucer
    PutFruitInLargeContainerAndCoverWithPlate PutGreenAppleInCenterOfTable PutGreenAppleOnSaucer
    PutKiwiInCenterOfTable PutKiwiOnSaucer PutMugInCenterOfTable PutMugOnSaucer
    PutOrangeInCenterOfTable PutOrangeOnSaucer SeparateFruitsVegetablesIntoContainers
    TurnCupUpsideDown TurnLargeContainerUpsideDown TurnMugRightsideUp
"""
_RIVERWAY = """
    BimanualHangMugsOnMugHolderFromDryingRack BimanualHangMugsOnMugHolderFromTable
    BimanualLayCerealBoxOnCuttingBoardFromTopShelf BimanualLayCerealBoxOnCuttingBoardFromUnderShelf
    BimanualPlaceAppleFromBowlIntoBin BimanualPlaceAppleFromBowlOnCuttingBoard
    BimanualPlaceAvocadoFromBowlIntoBin BimanualPlaceAvocadoFromBowlOnCuttingBoard
    BimanualPlaceFruitFromBowlIntoBin BimanualPlaceFruitFromBowlOnCuttingBoard
    BimanualPlacePearFromBowlIntoBin BimanualPlacePearFromBowlOnCuttingBoard
    BimanualPutMugsOnPlatesFromDryingRack BimanualPutMugsOnPlatesFromTable
    BimanualPutRedBellPepperInBin BimanualPutSpatulaOnPlateFromDryingRack
    BimanualPutSpatulaOnPlateFromTable BimanualPutSpatulaOnPlateFromUtensilCrock
    BimanualPutSpatulaOnTableFromDryingRack BimanualPutSpatulaOnTableFromUtensilCrock
    BimanualStackPlatesOnTableFromDryingRack BimanualStackPlatesOnTableFromTable
    BimanualStoreCerealBoxUnderShelf PutSpatulaInUtensilCrock PutSpatulaInUtensilCrockFromDryingRack
"""

_TIME_LIMITS_S = {
    "PutKiwiInCenterOfTable": 15.0,
    "PutMugInCenterOfTable": 15.0,
    "PutBananaOnSaucer": 20.0,
    "BimanualPutSpatulaOnPlateFromTable": 25.0,
    "BimanualPutSpatulaOnPlateFromUtensilCrock": 25.0,
    "TurnMugRightsideUp": 25.0,
    "BimanualPutSpatulaOnPlateFromDryingRack": 30.0,
    "PlaceCupByCoaster": 30.0,
    "TurnCupUpsideDown": 35.0,
    "PutMugOnSaucer": 40.0,
    "BimanualPutRedBellPepperInBin": 45.0,
    "PushCoasterToCenterOfTable": 45.0,
    "PutSpatulaInUtensilCrock": 45.0,
    "PushCoasterToMug": 50.0,
    "BimanualPlaceAppleFromBowlIntoBin": 55.0,
    "BimanualPlaceAvocadoFromBowlIntoBin": 55.0,
    "BimanualStoreCerealBoxUnderShelf": 55.0,
    "BimanualStackPlatesOnTableFromDryingRack": 60.0,
    "BimanualPlaceFruitFromBowlIntoBin": 75.0,
}


@dataclass(frozen=True, kw_only=True)
class Skill:
    """One of LBM Eval's tasks.

    station: cabot or riverway. time_limit_s: simulated seconds; None where it isn't known here.
    """

    name: str
    station: str
    time_limit_s: float | None

    @property
    def snake_case_name(self) -> str:
        """As LBM Eval's own interface has it: an underscore before each run of capitals."""
        return re.sub("([A-Z]+)", r"_\1", self.name)[1:].lower()


SKILLS: Mapping[str, Skill] = MappingProxyType(
    {
        name: Skill(name=name, station=station, time_limit_s=_TIME_LIMITS_S.get(name))
        for station, names in (("cabot", _CABOT), ("riverway", _RIVERWAY))
        for name in names.split()
    }
)

# Foundry's 16 main tasks and 3 unseen ones happen to be those whose limits its rollouts tell.
SKILL_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"all": tuple(SKILLS), "foundry-19": tuple(name for name in SKILLS if name in _TIME_LIMITS_S)}
)


def find_skills(names: Sequence[str]) -> list[Skill]:
    """The skills called `names`, each a name in CamelCase or snake_case or one of SKILL_SETS.

    Raises UsageError for a name that no skill has, with the nearest, and for a skill named twice.
    """
    by_folded_name = {_folded(name): skill for name, skill in SKILLS.items()}
    found: list[Skill] = []
    for name in names:
        if name in SKILL_SETS:
            found += [SKILLS[member] for member in SKILL_SETS[name]]
            continue
        skill = by_folded_name.get(_folded(name))
        if skill is None:
            raise UsageError(f"--tasks: LBM Eval has no skill {name!r}.{_suggestion(name)}")
        found.append(skill)
    for skill in found:
        if found.count(skill) > 1:
            raise UsageError(f"--tasks: {skill.name} is named twice in {','.join(names)}")
    return found


def as_text() -> str:
    """A line a skill, for people."""
    width = max(len(name) for name in SKILLS)
    lines = []
    for skill in SKILLS.values():
        limit = "   ?" if skill.time_limit_s is None else f"{skill.time_limit_s:4.0f}"
        lines.append(f"{skill.name:{width}}  {skill.station:8}  {limit} s")
    return "\n".join(lines)


def as_json() -> str:
    """A list, for programs."""
    return json.dumps([asdict(skill) for skill in SKILLS.values()], indent=2)


def _suggestion(name: str) -> str:
    known = {_folded(skill): skill for skill in SKILLS} | {name: name for name in SKILL_SETS}
    close = difflib.get_close_matches(_folded(name), list(known), n=1, cutoff=0.5)
    hint = f" Did you mean {known[close[0]]!r}?" if close else ""
    return f"{hint} `sim-client tasks --simulator lbm-eval` lists them all"


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
