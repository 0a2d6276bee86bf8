"""The failures of a task: films, side by side for two policies on one seed."""

from html import escape
from urllib.parse import urlencode

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.query import SHOWN_EPISODES
from step_analysis.dashboard.videos import find_video
from step_analysis.dashboard.views.material import Material, chooser, select
from step_analysis.loading import PolicyRollouts
from step_analysis.report.palette import policy_role
from step_analysis.rollouts import Outcome, RolloutRecord

_EPISODES_A_PAGE = 12
_NUM_TRIED = 3
"""Failures that are looked at to find a task with films."""
_TEXTS = {
    "failures": "either fails",
    "only-first-fails": "only the first fails",
    "only-second-fails": "only the second fails",
    "both-fail": "both fail",
    "all": "all episodes",
}


def draw_failures(material: Material, canvas: Canvas) -> None:
    """A card an episode, a column a policy."""
    first, second = material.pair()
    tasks = material.tasks
    fits = [t for t in tasks if t in first.tasks and (second is None or t in second.tasks)] or [
        t for t in tasks if t in first.tasks
    ]
    task = material.query.one_task
    if task not in tasks:
        # Rather one with something to see.
        task = next((name for name in fits if _is_filmed(first, name, material)), fits[0])
    names = [(policy.policy, policy.policy) for policy in material.by_rate]
    controls = [select("one_task", "Task", [(name, name) for name in tasks], task)]
    changed = ["one_task", "episodes"]
    if second is not None:
        controls += [
            select("first", "first", names, first.policy),
            select("second", "second", names, second.policy),
        ]
        changed += ["first", "second"]
    texts = [(name, _TEXTS[name]) for name in SHOWN_EPISODES if second is not None]
    texts = texts or [("failures", "failures"), ("all", "all episodes")]
    controls.append(select("episodes", "Episodes", texts, material.query.episodes))
    canvas.put(chooser(material.query, "failures", controls, changed))
    policies = [policy for policy in (first, second) if policy is not None]
    episodes = _episodes(policies, task)
    wanted = [each for each in episodes if _is_wanted(each[1], material.query.episodes)]
    canvas.data(
        "episodes",
        ("task", "scenario", "seed", *(p.policy for p in policies), *(
            f"{p.policy}: message" for p in policies)),
        [
            (task, index, next((r.seed for r in records if r is not None), None),
             *(None if r is None else r.outcome.value for r in records),
             *(None if r is None else r.message for r in records))
            for index, records in wanted
        ],
    )  # fmt: skip
    canvas.heading(task)
    canvas.lead(_count_sentence(len(wanted), len(episodes), policies))
    last_page = max(-(-len(wanted) // _EPISODES_A_PAGE), 1)
    page = min(material.query.page, last_page)
    shown = wanted[(page - 1) * _EPISODES_A_PAGE : page * _EPISODES_A_PAGE]
    canvas.put('<ol class="gallery">')
    for index, records in shown:
        canvas.put(_card(index, records, policies, task, material, canvas))
    canvas.put("</ol>")
    if last_page > 1:
        canvas.put(_pages(page, last_page, canvas))


def _is_filmed(policy: PolicyRollouts, task: str, material: Material) -> bool:
    """Whether one of the first failures of a task was filmed."""
    rollouts = policy.tasks[task]
    failed = [r for r in rollouts.counted if r.outcome is not Outcome.SUCCESS]
    root = material.snapshot.root
    return any(find_video(root, rollouts, r.scenario_index) for r in failed[:_NUM_TRIED])


_Records = tuple[RolloutRecord | None, ...]


def _episodes(policies: list[PolicyRollouts], task: str) -> list[tuple[int, _Records]]:
    """What each policy did, by scenario; those that none has tried are left out."""
    outcomes = [p.tasks[task].outcomes if task in p.tasks else {} for p in policies]
    indices = sorted({index for own in outcomes for index in own})
    return [(index, tuple(own.get(index) for own in outcomes)) for index in indices]


def _is_wanted(records: _Records, episodes: str) -> bool:
    fails = [
        record is not None and record.outcome in (Outcome.FAILURE, Outcome.TIMEOUT)
        for record in records
    ]
    if episodes == "all":
        return True
    if len(fails) < 2 or episodes == "failures":
        return any(fails)
    return {
        "only-first-fails": fails == [True, False],
        "only-second-fails": fails == [False, True],
        "both-fail": all(fails),
    }[episodes]


def _count_sentence(num_wanted: int, num_tried: int, policies: list[PolicyRollouts]) -> str:
    names = " or ".join(policy.policy for policy in policies)
    if not num_tried:
        return f"No episode of {names} has ended yet."
    return f"{num_wanted} of {num_tried} episodes that {names} tried."


def _card(
    index: int,
    records: _Records,
    policies: list[PolicyRollouts],
    task: str,
    material: Material,
    canvas: Canvas,
) -> str:
    seed = next((r.seed for r in records if r is not None and r.seed is not None), None)
    instruction = next((r.instruction for r in records if r is not None and r.instruction), None)
    seed_text = f", seed {seed}" if seed is not None else ""
    said = f'<p class="said">“{escape(instruction)}”</p>' if instruction else ""
    sides = "".join(
        _side(record, policy, task, index, material, canvas)
        for record, policy in zip(records, policies, strict=True)
    )
    both = ""
    if sides.count("<video") > 1:
        both = '<button type="button" class="both">Play both</button>'
    return (
        f'<li id="episode-{index}"><h3>Scenario {index}{seed_text} {both}</h3>{said}'
        f'<div class="sides">{sides}</div></li>'
    )


def _side(
    record: RolloutRecord | None,
    policy: PolicyRollouts,
    task: str,
    index: int,
    material: Material,
    canvas: Canvas,
) -> str:
    role = policy_role(canvas.indices[policy.policy])
    name = escape(policy.policy)
    begin = f'<section style="--colour:var(--{role})" aria-label="{name}"><h4>{name}</h4>'
    if record is None:
        return f'{begin}<p class="outcome">not run</p></section>'
    video = find_video(material.snapshot.root, policy.tasks[task], index)
    if video is not None:
        what = {
            "condition": material.condition,
            "policy": policy.policy,
            "task": task,
            "scenario": str(index),
        }
        film = (
            f'<video controls loop muted playsinline preload="metadata" '
            f'src="{escape(f"/video?{urlencode(what)}")}" '
            f'aria-label="{name}, scenario {index}: {record.outcome.value}"></video>'
        )
    else:
        film = '<p class="no-film">not filmed</p>'
    facts = [f'<b class="outcome {record.outcome.value}">{record.outcome.value}</b>']
    if record.progress is not None:
        facts.append(f"progress {100.0 * record.progress:.0f} %")
    if record.duration_s is not None:
        facts.append(f"{record.duration_s:.1f} s")
    message = f"<p>{escape(record.message[:400])}</p>" if record.message else ""
    return f'{begin}{film}<p class="facts">{" · ".join(facts)}</p>{message}</section>'


def _pages(page: int, last_page: int, canvas: Canvas) -> str:
    links = []
    for text, to in (("Earlier", page - 1), ("Later", page + 1)):
        if 1 <= to <= last_page:
            address = escape(canvas.query.address("/failures", page=to))
            links.append(f'<a href="{address}">{text}</a>')
    return (
        f'<nav class="pages" aria-label="Pages">{" ".join(links)} page {page} of {last_page}</nav>'
    )
