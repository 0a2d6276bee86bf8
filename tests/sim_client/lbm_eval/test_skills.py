"""LBM Eval's skills by their names."""

from __future__ import annotations

import pytest

from sim_client.evaluation.errors import UsageError
from sim_client.lbm_eval.skills import SKILL_SETS, SKILLS, find_skills


def test_there_are_24_on_one_station_and_25_on_the_other() -> None:
    stations = [skill.station for skill in SKILLS.values()]
    assert (stations.count("cabot"), stations.count("riverway")) == (24, 25)


def test_each_is_found_by_either_of_its_names() -> None:
    for name, skill in SKILLS.items():
        assert find_skills([name]) == find_skills([skill.snake_case_name]) == [skill]
    assert SKILLS["PutMugOnSaucer"].snake_case_name == "put_mug_on_saucer"
    assert SKILLS["PutMugOnSaucer"].time_limit_s == 40.0
    assert SKILLS["PickAndPlaceBox"].time_limit_s is None


def test_sets_name_many_at_once() -> None:
    assert find_skills(["all"]) == list(SKILLS.values())
    foundry = find_skills(["foundry-19"])
    assert len(foundry) == 19
    # Foundry's: eight main tasks on either station, and three unseen ones.
    assert [skill.station for skill in foundry].count("cabot") == 9
    assert {"PutSpatulaInUtensilCrock", "PutMugInCenterOfTable"} <= set(SKILL_SETS["foundry-19"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["PutMugOnSaucr"], "no skill 'PutMugOnSaucr'. Did you mean 'PutMugOnSaucer'?"),
        (["put_mug_on_sacer"], "Did you mean 'PutMugOnSaucer'?"),
        (["foundry19"], "Did you mean 'foundry-19'?"),
        (["PutMugOnSaucer", "put_mug_on_saucer"], "PutMugOnSaucer is named twice"),
        (["all", "PutMugOnSaucer"], "PutMugOnSaucer is named twice"),
    ],
)
def test_a_name_that_is_none_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?").replace(".", r"\.")):
        find_skills(names)
