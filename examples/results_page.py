"""docs/results.md and its figures: a text whose tables are what the ledgers say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from results_all_tasks import choice_tables, policy_tables
from results_begun import begun_tables
from results_figures import latency_figure, latency_ms_of, learning_figure, way_of
from results_ledger import OTHERS, TOGETHER, Evaluated, Result, Training, read_results
from results_pairs import own_evaluations
from results_pretraining import pretraining_tables, read_pretraining
from results_tables import ALPHA, NOTHING, goals, head, held_out, rate_cells, row, success_s_cell
from results_trainings import trainings_table

from sim_client.tasks.catalog import TASKS
from step_analysis.api import compare_policies
from step_analysis.report.drawing import Drawing
from step_analysis.report.svg import svg_file

TEMPLATE = "page.template.md"
# Studies of policies with other beginnings: two, and SmolLM2's weights beside them.
STUDIES = ("pretraining", "beginnings")
GROUPS = ("one_task", TOGETHER, OTHERS, "begun", "baselines", "latency", "trials")


def draw(ledgers: Path) -> dict[str, str]:
    """Content by file, from docs on. ledgers: the folder of the groups and of the page's text."""
    groups = {group: read_results(ledgers / group) for group in GROUPS}
    trained = {result.name: result for result in groups["one_task"]}
    begun = {each.training.task for each in groups["begun"] if each.training}
    points = [each for result in groups["latency"] for each in result.evaluations]
    figures: dict[str, str] = {}
    sections = {
        "summary": [_summary(trained)],
        "tasks": _task_table(trained),
        "costs": _cost_table(trained),
        "learning": [],
        "films": _films(trained, ledgers.parent),
        "films_of_begun": _films(begun, ledgers.parent, suffix="-begun"),
        "all_tasks": policy_tables(groups[TOGETHER], trained),
        "trainings": trainings_table([*groups[OTHERS], *groups[TOGETHER]]),
        "choices": choice_tables(groups[TOGETHER]),
        "learning_all_tasks": [],
        "begun": begun_tables(groups["begun"], trained, groups[TOGETHER], groups[OTHERS]),
        **{group: pretraining_tables(read_pretraining(ledgers / group)) for group in STUDIES},
        "baselines": _baseline_table(groups["baselines"], trained),
        "latency": [NOTHING],
        "trials": _trial_table(groups["trials"]),
    }
    for name, title, results in (
        ("learning", "Held-out action error while training", groups["one_task"]),
        (
            "learning_all_tasks",
            "Held-out action error while training for all tasks",
            groups[TOGETHER],
        ),
    ):
        taught = {each.name: each for each in results if each.training}
        if taught:
            sections[name] = [_figure(figures, name, title, learning_figure(taught))]
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
    """Of a policy that does one task."""
    return next(iter(held_out(result).values()), None)


def _summary(trained: Mapping[str, Result]) -> str:
    evaluated = own_evaluations(trained)
    return f"**{len(evaluated)} of {len(TASKS)} tasks: {goals(evaluated)}.**"


def _task_table(trained: Mapping[str, Result]) -> Iterator[str]:
    yield from head(
        "task", "arms", "successes", "95 %", "median success", "demonstrations", "held-out error"
    )
    for name, task in TASKS.items():
        result = trained.get(name)
        evaluated = result and _held_out(result)
        cells = [f"[{name}](tasks.md#{name.lower()})", "two" if task.bimanual else "one"]
        if result is None or result.training is None or evaluated is None:
            yield row(*cells, "not done yet", "", "", "", "")
            continue
        training = result.training
        yield row(
            *cells,
            *rate_cells(evaluated),
            success_s_cell(evaluated),
            f"{training.num_demonstrations}, {training.num_frames:,} frames",
            f"{training.last_error_mm:.1f} mm",
        )


def _cost_table(trained: Mapping[str, Result]) -> Iterator[str]:
    if not trained:
        yield NOTHING
        return
    yield from head("task", "optimizer steps", "demonstrations", "training", "evaluation")
    for name, result in trained.items():
        if result.training is not None:
            yield row(name, f"{result.training.num_steps:,}", *_minutes(result.training))


def _minutes(training: Training) -> Iterator[str]:
    for stage in ("demonstrations", "training", "evaluation"):
        spent = training.seconds.get(stage)
        yield "not recorded" if spent is None else f"{spent['cpu_s'] / 60:.0f}"


def _baseline_table(baselines: Sequence[Result], trained: Mapping[str, Result]) -> Iterator[str]:
    """By task, ours among them."""
    if not baselines:
        yield NOTHING
        return
    yield from head(
        *("task", "recipe", "successes", "95 %", "letters"),
        *("held-out error", "training, thread-minutes"),
    )
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
            alpha = ALPHA / len(tasks)
            letters = compare_policies(outcomes, method="mcnemar", alpha=alpha).letters
        for recipe, (training, evaluated) in rows.items():
            _, minutes, _ = _minutes(training)
            yield row(
                *(task, recipe, *rate_cells(evaluated), letters.get(recipe, "")),
                *(f"{training.last_error_mm:.1f} mm", minutes),
            )


def _films(tasks: Collection[str], docs: Path, *, suffix: str = "") -> Iterator[str]:
    """suffix: of the files' names, by which policy's film it is."""
    for name in filter(tasks.__contains__, TASKS):
        path = Path("images", "results", f"{name}{suffix}.gif")
        if (docs / path).exists():
            yield f"![{name}: {TASKS[name].instruction}]({path})"


def _latency_table(points: Sequence[Evaluated]) -> Iterator[str]:
    latencies = sorted({latency_ms_of(each) for each in points})
    # One table, one error: every latency's comparisons have their part of alpha.
    alpha = ALPHA / len(latencies)
    yield from head("latency", "how it is lived with", "successes", "95 %", "letters")
    for latency_ms in latencies:
        ways = {way_of(each): each for each in points if latency_ms_of(each) == latency_ms}
        letters: Mapping[str, str] = {}
        if len(ways) > 1:
            outcomes = {name: each.successes for name, each in ways.items()}
            letters = compare_policies(outcomes, method="mcnemar", alpha=alpha).letters
        for name, each in ways.items():
            yield row(f"{latency_ms:.0f} ms", name, *rate_cells(each), letters.get(name, ""))


def _trial_table(trials: Sequence[Result]) -> Iterator[str]:
    if not trials:
        yield NOTHING
        return
    yield from head("trial", "task", "steps", "batch", "wall minutes", "error", "validation")
    for result in trials:
        training = result.training
        if training is None:
            continue
        evaluated = next(iter(result.evaluations), None)
        yield row(
            result.name,
            training.task,
            f"{training.num_steps:,}",
            str(training.batch_size),
            f"{training.training_s / 60:.0f}",
            f"{training.last_error_mm:.1f} mm",
            "" if evaluated is None else f"{evaluated.num_successes} of {evaluated.num_counted}",
        )
