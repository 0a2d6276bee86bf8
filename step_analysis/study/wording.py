"""What a study says: a line while it runs, sentences when it has ended."""

from collections.abc import Sequence

from step_analysis.compact_letters import compact_letters
from step_analysis.study.comparisons import ComparisonStanding, Stage
from step_analysis.study.study import Study

TEST_NAMES = {
    "paired": "the sequential McNemar test",
    "step": "STEP",
    "lai": "Lai's test",
    "savi": "SAVI",
    "betting": "the betting test",
}


def progress_line(study: Study) -> str:
    """The state of each comparison, short: 'PickAndPlaceBox: early 3, trained 11 of 14, open'."""
    standing = study.standing()
    if len(standing.comparisons) == 1:
        (each,) = standing.comparisons
        return _state(study, each)
    decided = sum(each.stage is Stage.DECIDED for each in standing.comparisons)
    parts = [f"{decided} of {len(standing.comparisons)} decided"]
    parts += [_state(study, each) for each in standing.open]
    return "; ".join(parts)


def verdict_lines(study: Study) -> list[str]:
    """A sentence for each panel, the tasks first."""
    return [panel_sentence(study, tasks) for tasks in study.design.panels]


def headline(study: Study) -> str:
    """The verdict of the whole study in a sentence, and what it cost."""
    design, standing = study.design, study.standing()
    sentence = panel_sentence(study, design.panels[-1])
    if design.scope == "tasks" and len(design.tasks) > 1:
        decided = sum(each.stage is Stage.DECIDED for each in standing.comparisons)
        sentence = f"{decided} of {len(standing.comparisons)} comparisons are decided"
    return (
        f"{sentence}. {guarantee(study)} The verdict rests on {standing.num_rollouts_used} "
        f"of the {design.num_rollouts} rollouts of the budget."
    )


def guarantee(study: Study) -> str:
    """What alpha bounds."""
    design = study.design
    num = design.num_comparisons
    over = f" over {num} comparisons" if num > 1 else ""
    if design.correction == "benjamini-hochberg":
        return f"At most {design.alpha:g} of the verdicts are expected to be wrong{over}."
    if design.correction == "arrival":
        over += ", and stays so however many policies still come"
    return f"The chance of any wrong verdict was at most {design.alpha:g}{over}."


def panel_sentence(study: Study, tasks: Sequence[str]) -> str:
    """What is decided on one task, or on all together; without a full stop."""
    panel = study.standing().panel(tasks)
    if len(panel) == 1:
        return pair_sentence(study, panel[0])
    if study.design.question == "best":
        return _best_sentence(study, panel)
    return _ranking_sentence(study, panel)


def panel_name(tasks: Sequence[str]) -> str:
    return tasks[0] if len(tasks) == 1 else f"all {len(tasks)} tasks together"


def pair_sentence(study: Study, each: ComparisonStanding) -> str:
    """One comparison; without a full stop."""
    where = panel_name(each.tasks)
    if each.winner is not None and each.loser is not None:
        return (
            f"{each.winner} is better than {each.loser} on {where} "
            f"({_score(study, each, each.winner)} against {_score(study, each, each.loser)} of "
            f"{each.time}): {TEST_NAMES[study.design.test]} decided after {each.time} of up to "
            f"{each.n_max} episodes of each"
        )
    both = f"{each.arm0} and {each.arm1} on {where}"
    scores = f"{_score(study, each, each.arm0)} and {_score(study, each, each.arm1)}"
    if each.stage is Stage.OPEN:
        return (
            f"undecided so far between {both} ({scores} of {each.time}): "
            f"{TEST_NAMES[study.design.test]} has read {each.time} of up to {each.n_max} episodes"
        )
    return (
        f"no difference shown between {both} ({scores} of {each.time}): "
        f"{TEST_NAMES[study.design.test]} is undecided after its budget of {each.n_max} episodes"
    )


def _best_sentence(study: Study, panel: Sequence[ComparisonStanding]) -> str:
    beaten = {each.loser for each in panel if each.loser is not None}
    left = [policy.name for policy in study.design.policies if policy.name not in beaten]
    where = panel_name(panel[0].tasks)
    if len(left) == 1:
        return f"{left[0]} is the best of {len(study.design.policies)} policies on {where}"
    so_far = " so far" if any(each.stage is Stage.OPEN for each in panel) else ""
    out = f"; beaten: {', '.join(sorted(beaten))}" if beaten else ""
    return f"the best on {where} is not decided{so_far} between {_listed(left)}{out}"


def _ranking_sentence(study: Study, panel: Sequence[ComparisonStanding]) -> str:
    letters = panel_letters(study, panel)
    ranked = ", ".join(f"{policy} {shared}" for policy, shared in letters.items())
    decided = sum(each.stage is Stage.DECIDED for each in panel)
    so_far = " so far" if any(each.stage is Stage.OPEN for each in panel) else ""
    return (
        f"on {panel_name(panel[0].tasks)}{so_far}: {ranked} (policies that share a letter are not "
        f"shown to differ; {decided} of {len(panel)} pairs decided)"
    )


def panel_letters(study: Study, panel: Sequence[ComparisonStanding]) -> dict[str, str]:
    """Compact letters, the best policy first, by the episodes that some verdict rests on."""
    rates = {policy.name: _rate(study, policy.name, panel) for policy in study.design.policies}
    order = sorted(rates, key=lambda name: (-rates[name], name))
    different = [(each.arm0, each.arm1) for each in panel if each.winner is not None]
    return compact_letters(order, different)


def _rate(study: Study, policy: str, panel: Sequence[ComparisonStanding]) -> float:
    length = max(each.time for each in panel if policy in each.arms)
    values = study.tape.read(policy, panel[0].tasks, length)
    return float(values.mean()) if length else 0.0


def _score(study: Study, each: ComparisonStanding, policy: str) -> str:
    """Successes, or the sum of the scores, in the episodes that the verdict rests on."""
    total = float(study.tape.read(policy, each.tasks, each.time).sum())
    return f"{total:.0f}" if study.design.measure == "success" else f"{total:.1f}"


def _state(study: Study, each: ComparisonStanding) -> str:
    scores = ", ".join(f"{arm} {_score(study, each, arm)}" for arm in each.arms)
    end = f"{each.winner} is better" if each.winner is not None else str(each.stage)
    return f"{panel_name(each.tasks)}: {scores} of {each.time}, {end}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
