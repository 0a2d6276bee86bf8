"""The page around a view: its head, navigation, filters, and what is taken away from it."""

from collections.abc import Sequence
from html import escape
from typing import get_args

from step_analysis.comparison import Correction
from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.document import being_read, document
from step_analysis.dashboard.query import Query
from step_analysis.dashboard.snapshot import Snapshot
from step_analysis.dashboard.views import VIEWS
from step_analysis.dashboard.views.material import Material, select
from step_analysis.methods import Method, Sides
from step_analysis.report.page_files import script_safe
from step_analysis.report.palette import policy_role
from step_analysis.study.wording import TEST_NAMES


def whole_page(material: Material, canvas: Canvas) -> str:
    """A document; `live.js` replaces its #live part as results arrive."""
    title = f"{VIEWS[canvas.view].title} · {material.snapshot.root.name or 'results'}"
    return document(title, live_part(material, canvas))


def live_part(material: Material, canvas: Canvas) -> str:
    """What changes as results arrive."""
    snapshot = material.snapshot
    pending = material.analysis is not None and not material.analysis.is_current
    return (
        f'<div id="live" data-version="{snapshot.version}" data-pending="{int(pending)}">'
        f"{_header(snapshot)}{_navigation(material, canvas)}"
        f'<main id="content" tabindex="-1">{_filters(material, canvas)}{_notices(material)}'
        f"{canvas.html}{_exports(canvas)}</main>"
        f'<script type="application/json" id="tips">{script_safe(canvas.tips)}</script></div>'
    )


def nothing_yet(snapshot: Snapshot) -> str:
    """What stands in the place of a view that has nothing to show."""
    if not snapshot.is_complete:
        text = being_read(snapshot.root)
    elif any(snapshot.conditions.values()):
        text = "No rollout is left by these filters."
        return f'<p class="empty">{text} <a href="/overview">Reset them</a></p>'
    else:
        text = (
            f"There are no rollouts in {snapshot.root} yet. Run sim-client evaluate with this "
            "folder as its output; this page shows them as they arrive."
        )
    return f'<p class="empty">{escape(text)}</p>'


def _header(snapshot: Snapshot) -> str:
    num_running = len(snapshot.running)
    if not snapshot.is_complete and snapshot.num_files:
        state = f"reading {snapshot.num_files_read} of {snapshot.num_files} files"
    elif num_running:
        state = "1 evaluation is running" if num_running == 1 else f"{num_running} are running"
    else:
        state = "nothing is running"
    kind = "running" if num_running else "still"
    return (
        f'<header class="bar"><h1>{escape(snapshot.root.name or str(snapshot.root))}</h1>'
        f'<p class="live {kind}"><span id="connection" class="dot"></span>{state}</p></header>'
    )


def _navigation(material: Material, canvas: Canvas) -> str:
    links = []
    for name, view in VIEWS.items():
        current = ' aria-current="page"' if name == canvas.view else ""
        address = escape(material.query.address(f"/{name}", page=1))
        links.append(f'<a href="{address}"{current}>{view.title}</a>')
    return f'<nav class="views" aria-label="Views">{"".join(links)}</nav>'


def _filters(material: Material, canvas: Canvas) -> str:
    query, snapshot = material.query, material.snapshot
    policies = snapshot.conditions.get(material.condition, ())
    if not policies:
        return ""
    tasks = sorted({task for policy in policies for task in policy.tasks})
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in query.pairs()
        if name in ("first", "second", "one_task", "episodes")
    )
    policy_boxes = _boxes(
        "policy",
        [policy.policy for policy in policies],
        query.policy,
        {policy.policy: policy_role(canvas.indices[policy.policy]) for policy in policies},
    )
    selects = []
    if len(snapshot.conditions) > 1:
        conditions = [(name, name) for name in snapshot.conditions]
        selects.append(select("condition", "Condition", conditions, material.condition))
    selects += [
        select("alpha", "Alpha", _numbers((0.01, 0.05, 0.1), query.alpha), f"{query.alpha:g}"),
        select("confidence", "Confidence", _numbers((0.9, 0.95, 0.99), query.confidence),
               f"{query.confidence:g}"),
        select("method", "Test", _same(get_args(Method)), query.method),
        select("sides", "Sides", _same(get_args(Sides)), query.sides),
        select("correction", "Correction", _same(get_args(Correction)), query.correction),
    ]  # fmt: skip
    reset = ""
    if query.pairs():
        reset = f'<a href="/{canvas.view}">Reset</a>'
    return (
        f'<details class="filters" id="filters"><summary>{_summary(material)}</summary>'
        f'<form action="/{canvas.view}" method="get">{kept}'
        f"<fieldset><legend>Policies</legend>{policy_boxes}</fieldset>"
        f"<fieldset><legend>Tasks</legend>{_boxes('task', tasks, query.task, {})}</fieldset>"
        f"<fieldset><legend>Statistics</legend>{''.join(selects)}</fieldset>"
        f'<p class="buttons"><button type="submit">Apply</button> {reset}</p></form></details>'
    )


def _summary(material: Material) -> str:
    query = material.query
    policies = f"{len(query.policy)} policies" if query.policy else "all policies"
    tasks = f"{len(query.task)} tasks" if query.task else "all tasks"
    return escape(
        f"Filters: {policies}, {tasks}, {material.condition}, alpha {query.alpha:g}, "
        f"{query.method} test"
    )


def _boxes(name: str, values: Sequence[str], chosen: Sequence[str], roles: dict[str, str]) -> str:
    parts = []
    for value in values:
        checked = " checked" if value in chosen else ""
        dot = ""
        if value in roles:
            dot = f'<i class="swatch" style="--colour:var(--{roles[value]})"></i>'
        parts.append(
            f'<label class="box"><input type="checkbox" name="{name}" value="{escape(value)}"'
            f"{checked}>{dot}{escape(value)}</label>"
        )
    return f'<div class="boxes">{"".join(parts)}</div>'


def _numbers(usual: Sequence[float], chosen: float) -> list[tuple[str, str]]:
    return [(f"{value:g}", f"{value:g}") for value in sorted({*usual, chosen})]


def _same(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, name) for name in names]


def _notices(material: Material) -> str:
    """What the address asks for and is not there, whose verdicts these are not, and files that
    can't be read."""
    notices = []
    snapshot, query = material.snapshot, material.query
    policies = snapshot.conditions.get(material.condition, ())
    known = {policy.policy for policy in policies}
    tasks = {task for policy in policies for task in policy.tasks}
    named = filter(None, (*query.policy, query.first, query.second))
    missing = [name for name in named if name not in known]
    missing += [name for name in query.task if name not in tasks]
    if missing and snapshot.is_complete:
        notices.append(f"Not in this folder: {', '.join(missing)}.")
    design = snapshot.study_design
    if design is not None and query.leaves_the_tests:
        notices.append(
            f"This folder is a study: the verdicts are its own, by {TEST_NAMES[design.test]}, with "
            f"alpha {design.alpha:g} and the budget of {design.max_episodes} episodes that were "
            "locked beforehand. Rollouts beyond a decision are in no rate."
        )
    elif design is not None:
        notices.append(
            "This folder is a study, whose test and alpha were locked beforehand. What is tested "
            "here is this page's own choice; without it the study's verdicts are shown."
        )
    if snapshot.faults:
        files = "1 file" if len(snapshot.faults) == 1 else f"{len(snapshot.faults)} files"
        notices.append(f"{files} can't be read: {snapshot.faults[0].text}")
    return "".join(
        f'<p class="notice"><a href="{escape(query.address("/errors"))}">{escape(text)}</a></p>'
        for text in notices
    )


def _exports(canvas: Canvas) -> str:
    if not canvas.tables:
        return ""
    query: Query = canvas.query
    links = [
        f'<a href="{escape(query.address(f"/data/{canvas.view}/{name}.csv"))}">'
        f"{escape(name)}.csv</a>"
        for name in canvas.tables
    ]
    links.append(f'<a href="{escape(query.address(f"/data/{canvas.view}.json"))}">all as JSON</a>')
    return (
        f'<footer class="exports"><p>Take away: {" ".join(links)} '
        '<button type="button" id="print" class="link">this page as PDF</button></p>'
        "<p>The address of this page holds the view: whoever opens it sees the same of the "
        "folder's state then.</p></footer>"
    )
