"""docs/results.md and its figures: a text whose tables are what the ledgers say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from results_figures import latency_figure, latency_ms_of, learning_figure, way_of
from results_ledger import Evaluated, Result, Training, read_results

from sim_client.tasks.catalog import TASKS
from step_analysis.api import compare_policies
from step_analysis.intervals import clopper_pearson
from step_analysis.report.drawing import Drawing
from step_analysis.report.svg import svg_file

TEMPLATE = "page.template.md"
GROUPS = ("one_task", "baselines", "latency", "trials")

# Those on which nothing was ever chosen, and those on which settings were.
HELD_OUT, VALIDATION = 500, 1000
_GOAL, _LEAST = 0.90, 0.75
_GOAL_TASKS = 10
_ALPHA = 0.05

_NOTHING = "Not measured yet."


def draw(ledgers: Path) -> dict[str, str]:
    """Content by file, from docs on. ledgers: the folder of the groups and of the page's text."""
    groups = {group: read_results(ledgers / group) for group in GROUPS}
    trained = {result.name: result for result in groups["one_task"]}
    points = [each for result in groups["latency"] for each in result.evaluations]
    figures: dict[str, str] = {}
    sections = {
        "summary": [_summary(trained)],
        "tasks": _task_table(trained),
        "costs": _cost_table(trained),
        "learning": [],
        "films": _films(trained, ledgers.parent),
        "baselines": _baseline_table(groups["baselines"], trained),
        "latency": [_NOTHING],
        "trials": _trial_table(groups["trials"]),
    }
    if trained:
        title = "Held-out action error while training"
        figure = _figure(figures, "learning", title, learning_figure(trained))
        sections["learning"] = [figure]
    if points:
        figure = _figure(figures, "latency", "Success against latency", latency_figure(points))
        sections["latency"] = [*_latency_table(points), "", figure]
    texts = {name: "\n".join(lines) for name, lines in sections.items()}
    page = Template((ledgers / TEMPLATE).read_text()).substitute(texts)
    return {"results.md": page, **figures}


def _figure(figures: dict[str, str], name: str, title: str, drawing: Drawing) -> str:
    path = f"images/results/{name}.svg"
    figures[path] = svg_file(drawing, "light", title)
    return f"![{title}]({path})"


def _held_out(result: Result) -> Evaluated | None:
    """The evaluation that counts: nominal, and on episodes that nothing was chosen on."""
    return next(
        (
            each
            for each in result.evaluations
            if HELD_OUT <= each.first_episode < VALIDATION
            and not each.shift
            and not each.latency_ms
            and each.execution == "receding"
            and not each.planned_steps
        ),
        None,
    )


def _summary(trained: Mapping[str, Result]) -> str:
    evaluated = [each for result in trained.values() if (each := _held_out(result))]
    rates = [each.num_successes / each.num_counted for each in evaluated]
    return (
        f"**So far {len(evaluated)} of {len(TASKS)} tasks: "
        f"{sum(rate >= _GOAL for rate in rates)} reach 90 % (goal: {_GOAL_TASKS}), "
        f"{sum(rate >= _LEAST for rate in rates)} reach 75 % (goal: all).**"
    )


def _task_table(trained: Mapping[str, Result]) -> Iterator[str]:
    yield from _head(
        "task", "arms", "successes", "95 %", "median success", "demonstrations", "held-out error"
    )
    for name, task in TASKS.items():
        result = trained.get(name)
        evaluated = result and _held_out(result)
        cells = [f"[{name}](tasks.md#{name.lower()})", "two" if task.bimanual else "one"]
        if result is None or result.training is None or evaluated is None:
            yield _row(*cells, "not done yet", "", "", "", "")
            continue
        training = result.training
        yield _row(
            *cells,
            *_rate_cells(evaluated),
            "" if evaluated.success_s is None else f"{evaluated.success_s:.1f} s",
            f"{training.num_demonstrations}, {training.num_frames:,} frames",
            f"{training.last_error_mm:.1f} mm",
        )


def _cost_table(trained: Mapping[str, Result]) -> Iterator[str]:
    if not trained:
        yield _NOTHING
        return
    yield from _head("task", "optimizer steps", "demonstrations", "training", "evaluation")
    for name, result in trained.items():
        if result.training is not None:
            yield _row(name, f"{result.training.num_steps:,}", *_minutes(result.training))


def _minutes(training: Training) -> Iterator[str]:
    for stage in ("demonstrations", "training", "evaluation"):
        spent = training.seconds.get(stage)
        yield "not recorded" if spent is None else f"{spent['cpu_s'] / 60:.0f}"


def _baseline_table(baselines: Sequence[Result], trained: Mapping[str, Result]) -> Iterator[str]:
    """By task, ours among them."""
    if not baselines:
        yield _NOTHING
        return
    yield from _head("task", "recipe", "successes", "95 %", "letters", "training, thread-minutes")
    tasks = dict.fromkeys(each.training.task for each in baselines if each.training)
    for task in tasks:
        rows: dict[str, tuple[Training, Evaluated]] = {}
        for result in (*filter(None, [trained.get(task)]), *baselines):
            training, evaluated = result.training, _held_out(result)
            if training is not None and evaluated is not None and training.task == task:
                rows[training.recipe] = (training, evaluated)
        outcomes = {recipe: evaluated.successes for recipe, (_, evaluated) in rows.items()}
        letters: Mapping[str, str] = {}
        if len(rows) > 1:
            alpha = _ALPHA / len(tasks)
            letters = compare_policies(outcomes, method="mcnemar", alpha=alpha).letters
        for recipe, (training, evaluated) in rows.items():
            _, minutes, _ = _minutes(training)
            yield _row(task, recipe, *_rate_cells(evaluated), letters.get(recipe, ""), minutes)


def _films(trained: Mapping[str, Result], docs: Path) -> Iterator[str]:
    for name in trained:
        path = Path("images", "results", f"{name}.gif")
        if (docs / path).exists():
            yield f"![{name}: {TASKS[name].instruction}]({path})"


def _latency_table(points: Sequence[Evaluated]) -> Iterator[str]:
    latencies = sorted({latency_ms_of(each) for each in points})
    # One table, one error: every latency's comparisons have their part of alpha.
    alpha = _ALPHA / len(latencies)
    yield from _head("latency", "how it is lived with", "successes", "95 %", "letters")
    for latency_ms in latencies:
        row = {way_of(each): each for each in points if latency_ms_of(each) == latency_ms}
        letters: Mapping[str, str] = {}
        if len(row) > 1:
            outcomes = {name: each.successes for name, each in row.items()}
            letters = compare_policies(outcomes, method="mcnemar", alpha=alpha).letters
        for name, each in row.items():
            yield _row(f"{latency_ms:.0f} ms", name, *_rate_cells(each), letters.get(name, ""))


def _trial_table(trials: Sequence[Result]) -> Iterator[str]:
    if not trials:
        yield _NOTHING
        return
    yield from _head("trial", "task", "steps", "batch", "wall minutes", "error", "validation")
    for result in trials:
        training = result.training
        if training is None:
            continue
        evaluated = next(iter(result.evaluations), None)
        yield _row(
            result.name,
            training.task,
            f"{training.num_steps:,}",
            str(training.batch_size),
            f"{training.training_s / 60:.0f}",
            f"{training.last_error_mm:.1f} mm",
            "" if evaluated is None else " of ".join(_counts(evaluated)),
        )


def _rate_cells(evaluated: Evaluated) -> tuple[str, str]:
    successes, num = evaluated.num_successes, evaluated.num_counted
    interval = clopper_pearson(successes, num)
    return (
        f"{' of '.join(_counts(evaluated))}, {100 * successes / num:.0f} %",
        f"{100 * interval.lower:.0f} to {100 * interval.upper:.0f} %",
    )


def _counts(evaluated: Evaluated) -> tuple[str, str]:
    return str(evaluated.num_successes), str(evaluated.num_counted)


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield "|---" * len(cells) + "|"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
