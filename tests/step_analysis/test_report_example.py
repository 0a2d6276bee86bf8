"""The published rollouts of VLA Foundry: twelve models, nineteen tasks."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from step_analysis.comparison import Comparison, compare
from step_analysis.doctor.examination import examine
from step_analysis.examples.published import load_example
from step_analysis.loading import PolicyRollouts
from step_analysis.report.content import ReportContent, build_content
from step_analysis.report.gallery import FIGURE_NAMES, draw_figures
from step_analysis.report.page import html_page
from step_analysis.report.palette import SCHEMES
from step_analysis.report.png import png_file
from step_analysis.report.rendering import render_files
from step_analysis.usage import UsageError

LONGEST_PAGE_BYTES = 2_250_000


@pytest.fixture(scope="module")
def policies() -> Sequence[PolicyRollouts]:
    return load_example("foundry")


@pytest.fixture(scope="module")
def comparison(policies) -> Comparison:
    # Lai's: its boundaries take no time, and nothing here depends on the test.
    return compare(policies, method="lai")


@pytest.fixture(scope="module")
def content(comparison, policies) -> ReportContent:
    return build_content(
        comparison, confidence=0.95, arguments=["report"], findings=examine(policies)
    )


@pytest.fixture(scope="module")
def page(content, comparison) -> str:
    return html_page(content, draw_figures(content, comparison))


def test_the_example_is_the_published_data(policies):
    assert [len(policy.tasks) for policy in policies] == [19] * 9 + [16] * 3
    rollouts = [task for policy in policies for task in policy.tasks.values()]
    assert sum(len(task.outcomes) for task in rollouts) == 43_800
    assert {task.max_sample_size for task in rollouts} == {200}
    # Counts of the reference pipeline on the same files.
    published = {
        "BimanualPlaceAppleFromBowlIntoBin": (158, 151, 149),
        "TurnCupUpsideDown": (67, 141, 137),
        "BimanualStackPlatesOnTableFromDryingRack": (187, 175, 189),
    }
    lbm = [policy for policy in policies if policy.policy.startswith("LBM")]
    for task, counts in published.items():
        for policy, successes in zip(lbm, counts, strict=True):
            counted = policy.tasks[task].counted
            assert sum(record.outcome.value == "success" for record in counted) == successes


def test_an_unknown_example_names_those_that_there_are():
    with pytest.raises(UsageError, match="no example 'moon'; there is 'foundry'"):
        load_example("moon")


def test_every_number_given_is_on_the_page(content, page):
    text = re.sub("<[^>]*>", " ", page)
    num_pairs = 0
    for panel in content.panels:
        assert panel.title in page
        for row in panel.rates:
            assert f"{row.successes}/{row.num_counted}" in text
        num_pairs += len(panel.pairs)
    assert num_pairs == 17 * 66 + 3 * 36
    rows = re.findall(r'<tr data-p="\d+ \d+">', page)
    assert len(rows) == num_pairs
    decided = sum(pair.winner is not None for panel in content.panels for pair in panel.pairs)
    assert page.count("<b>first better</b>") == decided


def test_the_page_has_each_figure_in_both_widths_and_stays_small(page):
    for name in FIGURE_NAMES:
        (figure,) = re.findall(rf'<figure id="{name}">(.*?)</figure>', page, flags=re.DOTALL)
        assert figure.count("<svg") == 2
    assert len(page.encode("utf-8")) < LONGEST_PAGE_BYTES


def test_each_figure_names_each_policy_or_task(content, comparison):
    figures = draw_figures(content, comparison)
    policies = content.policies_by_rate
    tasks = [panel.title for panel in content.task_panels]
    for name in ("posteriors", "matrix", "tasks", "spider"):
        texts = {getattr(mark, "text", None) for mark in figures[name].wide.marks}
        assert set(policies) <= texts, name
    spider = {getattr(mark, "text", None) for mark in figures["spider"].wide.marks}
    assert set(tasks) <= spider
    tips = {getattr(mark, "tip", None) for mark in figures["evidence"].wide.marks}
    assert len(tips - {None}) == 66


def test_nothing_is_drawn_outside_of_a_figure(content, comparison):
    for figure in draw_figures(content, comparison).values():
        for drawing in (figure.wide, figure.narrow):
            for mark in drawing.marks:
                places = list(getattr(mark, "points", ())) or [(mark.x, mark.y)]  # type: ignore[attr-defined]
                for x, y in places:
                    assert -0.5 <= x <= drawing.width + 0.5, figure.name
                    assert -0.5 <= y <= drawing.height + 0.5, figure.name


@pytest.mark.slow
def test_threads_draw_the_same_as_one_figure_by_itself(content, comparison):
    figures = draw_figures(content, comparison)
    files = render_files(figures.values())
    assert len(files) == len(figures) * len(SCHEMES) * 3
    for name, figure in figures.items():
        assert files[f"figures/{name}-dark.png"] == png_file(figure.wide, "dark")


def test_the_command_makes_the_report(tmp_path: Path, capsys):
    from step_analysis.command_line import main

    main(["report", "--example", "foundry", "--output", str(tmp_path), "--method", "lai"])
    assert "no single best: Foundry-Qwen3VLA-2.1B (2654/3200, 83 %)" in capsys.readouterr().out
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert len(value["panels"]) == 20
    assert len(list((tmp_path / "figures").iterdir())) == len(FIGURE_NAMES) * 6


@pytest.mark.parametrize("arguments", [[], ["--example", "foundry", "rollouts"]])
def test_either_paths_or_an_example(arguments, tmp_path, capsys):
    from step_analysis.command_line import main

    with pytest.raises(SystemExit) as stopped:
        main(["report", *arguments, "--output", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "name at least one folder, ledger or results file to read" in capsys.readouterr().err
