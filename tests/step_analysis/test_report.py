import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from step_analysis.comparison import compare
from step_analysis.loading import load_rollouts
from step_analysis.report.content import ReportContent, build_content
from step_analysis.report.wording import percent
from step_analysis.report.writing import write_report

HOSTILE = "<script>alert('x')</script> $\\frac{a}{b$ \"&amp; `|` #2f6690 'DejaVu Sans'"
MESSAGE = (
    "Traceback (most recent call last):\n  </pre><img src=x onerror=alert(1)>\x1b[31mRuntimeError"
)


def _content(root: Path, **options) -> ReportContent:
    comparison = compare(load_rollouts([root]), **options)
    return build_content(comparison, confidence=0.95, arguments=["report", str(root)])


def _write(root: Path, output: Path) -> Path:
    comparison = compare(load_rollouts([root]))
    content = build_content(comparison, confidence=0.95, arguments=["report", str(root)])
    return write_report(output, content, comparison)


class _Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "img"}:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self._open):
            self.text += data


@pytest.fixture(scope="module")
def decided(evaluation_in, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rollouts")
    evaluation_in(root, "early", "01000100000100000010" + "0" * 30)
    return evaluation_in(root, "trained", "1" * 48 + "0t")


@pytest.fixture(scope="module")
def decided_page(decided: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(decided, tmp_path_factory.mktemp("out") / "report")


def test_a_decided_pair_reads_as_one_line(decided):
    headline = _content(decided).headline
    assert re.fullmatch(
        r"trained \(48/50, 96 %\) is better than early \(4/50, 8 %\): "
        r"STEP decided after \d+ of 50 episodes, alpha 0\.05\.",
        headline,
    )


def test_an_undecided_pair_claims_nothing(make_evaluation):
    make_evaluation("a", "10" * 10)
    root = make_evaluation("b", "01" * 10)
    assert _content(root).headline == (
        "no difference shown between a (10/20, 50 %) and b (10/20, 50 %): "
        "STEP is undecided after all 20 episodes, alpha 0.05."
    )


def test_an_incomplete_evaluation_says_so(make_evaluation):
    make_evaluation("a", "110" + "-" * 17)
    root = make_evaluation("b", "0" * 5 + "e" + "0" * 14)
    assert _content(root).headline == (
        "undecided so far between a (2/3, 67 %) and b (0/19, 0 %): STEP could use 3 of 20 "
        "episodes, alpha 0.05 (a has not finished PickAndPlaceBox scenario 3). 1 episode ended "
        "in an error and is not counted. 17 episodes are missing: the evaluation is incomplete."
    )


def test_one_policy_is_compared_with_nothing(make_evaluation):
    content = _content(make_evaluation("trained", "1" * 48 + "00"))
    assert content.headline == (
        "trained succeeds in 48 of 50 episodes of PickAndPlaceBox (96 %; 95 % interval 86 % to "
        "99.5 %); there is no second policy to compare it with."
    )


def test_nothing_but_errors_is_no_verdict(make_evaluation):
    content = _content(make_evaluation("trained", "eee"))
    assert content.headline == (
        "trained has no counted episode; there is nothing to judge. "
        "3 episodes ended in an error and are not counted."
    )


def test_several_policies_have_a_best_only_if_it_beats_each(make_evaluation, tmp_path):
    for policy, outcomes in (("a", "1" * 40), ("b", "1" * 12 + "0" * 28), ("c", "0" * 40)):
        make_evaluation(policy, outcomes, root=tmp_path / "clear")
        make_evaluation(
            policy, outcomes if policy != "b" else "1" * 39 + "0", root=tmp_path / "tie"
        )
        make_evaluation(policy, "10" * 20, root=tmp_path / "same")
    # b starts with twelve successes: it is a's equal until it fails.
    assert _content(tmp_path / "clear").headline.startswith("a (40/40, 100 %) is better than each")
    tie = _content(tmp_path / "tie").headline
    assert "no single best: a (40/40, 100 %) leads but is not shown to differ from b (39/40" in tie
    assert "2 of 3 pairs are decided" in tie
    assert _content(tmp_path / "same").headline.startswith("no difference shown between a (20/40")


def test_policies_without_a_common_task_are_not_compared(make_evaluation, tmp_path):
    make_evaluation("a", {"TaskA": "11"})
    root = make_evaluation("b", {"TaskB": "11"})
    assert "share no task" in _content(root).headline
    assert _write(root, tmp_path / "report").exists()


def test_a_verdict_that_later_episodes_reverse_says_so(make_evaluation):
    make_evaluation("a", "1" * 10 + "0" * 30)
    root = make_evaluation("b", "0" * 10 + "1" * 30)
    headline = _content(root).headline
    assert headline.startswith("a (10/40, 25 %) is better than b (30/40, 75 %): STEP decided after")
    assert headline.endswith("Over all counted episodes its rate is not the higher one.")


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.0, "0 %"),
        (0.22, "22 %"),
        (0.004, "0.4 %"),
        (0.996, "99.6 %"),
        (0.9999, ">99.9 %"),
        (1e-5, "<0.1 %"),
        (1.0, "100 %"),
    ],
)
def test_percentages_never_round_to_certainty(rate, text):
    assert percent(rate) == text


def test_the_folder_holds_page_markdown_numbers_and_figures(decided_page):
    page = decided_page
    names = {
        str(path.relative_to(page.parent)) for path in page.parent.rglob("*") if path.is_file()
    }
    figures = {
        f"figures/{n}.{s}" for n in ("posteriors", "tasks", "evidence") for s in ("svg", "png")
    }
    assert names == {"index.html", "report.md", "report.json"} | figures
    for name in figures:
        content = (page.parent / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
        assert len(content) > 2000


def test_all_numbers_are_in_the_json(decided_page):
    page = decided_page
    value = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    (panel,) = value["panels"]
    trained = next(row for row in panel["rates"] if row["policy"] == "trained")
    assert (trained["successes"], trained["num_counted"], trained["num_timeouts"]) == (48, 50, 1)
    assert trained["clopper_pearson"] == pytest.approx([0.8629, 0.9951], abs=5e-5)
    (pair,) = panel["pairs"]
    assert pair["winner"] == "trained"
    assert pair["alpha_per_side"] == 0.025
    assert value["headline"] in (page.parent / "report.md").read_text("utf-8").replace("\\", "")


def test_the_page_needs_neither_network_nor_script(decided_page):
    html = decided_page.read_text(encoding="utf-8")
    page = _Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    links = [v for _, a in page.tags for n, v in a.items() if n in {"src", "href", "xlink:href"}]
    assert {link for link in links if link and not link.startswith("#")} == {"report.json"}
    urls = re.findall(r"(?:url\(|@import)[^)]*", html)
    assert all(url.startswith("url(#") for url in urls)
    csp = next(a for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert csp["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_ids_on_the_page_are_unique(decided_page):
    page = _Page(decided_page.read_text(encoding="utf-8"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)) > 0


def test_hostile_names_and_messages_are_text_everywhere(make_evaluation, tmp_path):
    tasks = {"TaskA": "1" * 8 + "e1", "TaskB": "1" * 10}
    make_evaluation(HOSTILE, tasks, folder="hostile", message=MESSAGE)
    root = make_evaluation("early", {"TaskA": "0" * 10, "TaskB": "0" * 9 + "e"})
    output = _write(root, tmp_path / "report").parent
    page = _Page((output / "index.html").read_text(encoding="utf-8"))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in page.text
    assert "Errors, not counted" in page.text
    assert "</pre><img src=x onerror=alert(1)>" in page.text
    text = (output / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|img)", text)
    for name in ("posteriors", "tasks", "evidence"):
        assert "<script" not in (output / "figures" / f"{name}.svg").read_text(encoding="utf-8")


def test_writing_again_replaces_the_report_and_leaves_other_files(
    decided, make_evaluation, tmp_path
):
    output = tmp_path / "report"
    _write(decided, output)
    (output / "notes.txt").write_text("mine", encoding="utf-8")
    _write(make_evaluation("only", "11", root=tmp_path / "single"), output)
    assert not list(output.rglob("evidence.*"))
    assert not list(output.glob(".report-*"))
    assert (output / "notes.txt").exists()
    assert "only" in (output / "index.html").read_text(encoding="utf-8")
