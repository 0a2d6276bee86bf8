import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from step_analysis.command_line import main
from step_analysis.comparison import compare
from step_analysis.doctor.examination import examine
from step_analysis.findings import Finding, Severity
from step_analysis.loading import load_rollouts
from step_analysis.report.content import ReportContent, build_content
from step_analysis.report.wording import bare_points, percent, probability_text
from step_analysis.report.writing import write_report

HOSTILE = "<script>alert('x')</script> $\\frac{a}{b$ \"&amp; `|` #2f6690 'DejaVu Sans'"
MESSAGE = (
    "Traceback (most recent call last):\n  </pre><img src=x onerror=alert(1)>\x1b[31mRuntimeError"
)


def _content(root: Path, findings: Sequence[Finding] | None = None) -> ReportContent:
    return _made(root, findings)[0]


def _made(root: Path, findings: Sequence[Finding] | None = None):
    policies = load_rollouts([root])
    comparison = compare(policies)
    content = build_content(
        comparison,
        confidence=0.95,
        arguments=["report", str(root)],
        findings=examine(policies) if findings is None else findings,
    )
    return content, comparison


def _write(root: Path, output: Path, findings: Sequence[Finding] | None = None) -> Path:
    content, comparison = _made(root, findings)
    return write_report(output, content, comparison)


class _Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "img", "wbr"}:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg", "script"} & set(self._open):
            self.text += data
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)


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


def test_of_equal_rates_none_leads(make_evaluation, tmp_path):
    for policy, outcomes in (("a", "1" * 40), ("b", "1" * 40), ("c", "0" * 40)):
        make_evaluation(policy, outcomes, root=tmp_path / "two")
        make_evaluation(policy, outcomes, root=tmp_path / "three")
    make_evaluation("d", "1" * 39 + "0", root=tmp_path / "three")
    two = _content(tmp_path / "two").headline
    assert two.startswith(
        "no single best: a (40/40, 100 %) and b (40/40, 100 %) lead alike; 2 of 3 pairs are decided"
    )
    assert _content(tmp_path / "three").headline.startswith(
        "no single best: a (40/40, 100 %) and b (40/40, 100 %) lead alike; a is not shown to "
        "differ from d (39/40, 98 %); 3 of 6 pairs are decided"
    )


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


def test_who_is_shown_to_be_better_is_not_said_to_be_alike(make_evaluation, tmp_path):
    """The prefix up to an error decides; over all episodes the rates are the other way round."""
    a, b = "0" * 18 + "e" + "1" * 41, "1" * 18 + "10" * 21
    for root, c in (("best", "0" * 60), ("none", "110" * 20)):
        for policy, outcomes in (("a", a), ("b", b), ("c", c)):
            make_evaluation(policy, outcomes, root=tmp_path / root)
    best = _content(tmp_path / "best").headline
    assert best.startswith(
        "b (39/60, 65 %) is better than each of a (41/59, 69 %) and c (0/60, 0 %): STEP, alpha "
        "0.05 over 3 pairs. Over all counted episodes its rate is not the highest one."
    )
    none = _content(tmp_path / "none").headline
    assert none.startswith(
        "no single best: a (41/59, 69 %) has the highest rate, but c (40/60, 67 %) and b (39/60, "
        "65 %) are shown to be better; 2 of 3 pairs are decided: STEP"
    )


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
        f"figures/{name}{scheme}.{suffix}"
        for name in ("posteriors", "forest", "tasks", "evidence")
        for scheme in ("", "-dark")
        for suffix in ("svg", "png", "pdf")
    }
    assert names == {"index.html", "report.md", "report.json"} | figures
    beginnings = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF-1."}
    for name in figures:
        content = (page.parent / name).read_bytes()
        assert content.startswith(beginnings[name[-3:]])
        assert len(content) > 1500


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
    # Newcombe's interval of 48/50 - 4/50, from the Wilson intervals of both: 0.86542..0.98896
    # and 0.03155..0.18838 (arm 0 is "early").
    assert pair["difference"] == pytest.approx(0.88)
    assert pair["difference_interval"] == pytest.approx([0.7364, 0.9366], abs=2e-3)
    assert pair["probability_arm1_better"] > 0.999
    assert value["headline"] in (page.parent / "report.md").read_text("utf-8").replace("\\", "")


def test_the_page_needs_no_network_and_runs_no_script_but_its_own(decided_page):
    html = decided_page.read_text(encoding="utf-8")
    page = _Page(html)
    assert not {"link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    links = {v for _, a in page.tags for n, v in a.items() if n in {"src", "href", "xlink:href"}}
    assert "report.json" in links
    assert all(link and (decided_page.parent / link).is_file() for link in links)
    urls = re.findall(r"(?:url\(|@import)[^)]{0,30}", html)
    assert urls
    assert all(url.startswith("url(data:font/ttf;base64,") for url in urls)
    csp = next(a for tag, a in page.tags if tag == "meta" and "http-equiv" in a)["content"]
    assert csp is not None
    assert csp.startswith("default-src 'none'; ")
    *data, script = page.scripts
    (tips,) = data
    assert all(isinstance(tip, str) for tip in json.loads(tips))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    assert f"script-src 'sha256-{digest}'" in csp
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|innerHTML|eval\(|https?:", script)


def test_ids_on_the_page_are_unique(decided_page):
    page = _Page(decided_page.read_text(encoding="utf-8"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)) > 0


def test_hostile_names_and_messages_are_text_everywhere(make_evaluation, tmp_path):
    tasks = {"TaskA": "1" * 8 + "e1", "TaskB": "1" * 10}
    make_evaluation(HOSTILE, tasks, folder="hostile", message=MESSAGE)
    root = make_evaluation("early", {"TaskA": "0" * 10, "TaskB": "0" * 9 + "e"})
    output = _write(root, tmp_path / "report").parent
    html = (output / "index.html").read_text(encoding="utf-8")
    page = _Page(html)
    assert "img" not in {tag for tag, _ in page.tags}
    assert len(page.scripts) == 2
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in page.text
    assert any(HOSTILE in tip for tip in json.loads(page.scripts[0]))
    assert "Errors, not counted" in page.text
    assert "</pre><img src=x onerror=alert(1)>" in page.text
    text = (output / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|img)", text)
    for name in ("posteriors", "forest", "tasks", "evidence"):
        assert "<script" not in (output / "figures" / f"{name}.svg").read_text(encoding="utf-8")


def test_what_the_doctor_found_stands_in_each_form_with_its_effect(decided, tmp_path):
    findings = [
        Finding(
            code=code,
            severity=severity,
            policy="trained",
            task=None,
            count=7,
            text=f"what <{code}> is",
            effect=f"what <{code}> does",
        )
        for code, severity in (("minor", Severity.NOTE), ("grave", Severity.ERROR))
    ]
    page = _write(decided, tmp_path / "report", findings)
    value = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert [finding["code"] for finding in value["findings"]] == ["grave", "minor"]
    text = _Page(page.read_text(encoding="utf-8")).text
    markdown = (page.parent / "report.md").read_text(encoding="utf-8").replace("\\", "")
    for finding in findings:
        for part in (finding.text, finding.effect, finding.severity.value, "7"):
            assert part in text
            assert part in markdown


def test_errors_and_missing_episodes_are_in_the_table(make_evaluation, tmp_path):
    make_evaluation("a", "1100110011")
    root = make_evaluation("b", "0110e0e0--")
    text = _Page(_write(root, tmp_path / "report").read_text(encoding="utf-8")).text
    assert "2 errors, 2 missing" in text
    assert "unresolved-errors" in text
    assert "missing-episodes" in text


def test_the_same_rollouts_give_the_same_files(decided, tmp_path):
    pages = [_write(decided, tmp_path / name) for name in ("first", "second")]
    first, second = (
        {path.relative_to(page.parent): path.read_bytes() for path in page.parent.rglob("*.*")}
        for page in pages
    )
    assert first.keys() == second.keys()
    changing = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
    for name, data in first.items():
        assert changing.sub(b"", data) == changing.sub(b"", second[name]), name


def test_strict_refuses_what_the_doctor_warns_of(make_evaluation, tmp_path, capsys):
    make_evaluation("a", "1" * 10)
    root = make_evaluation("b", "0" * 9 + "e")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(root), "--output", str(tmp_path / "report"), "--strict"])
    assert stopped.value.code == 2
    assert "--strict: unresolved-errors (b, PickAndPlaceBox): " in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (0.1234, "+12.3"),
        (-0.04, "−4.0"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (-0.0004, "0.0"),
        (None, "–"),
    ],
)
def test_differences_have_a_sign_unless_they_round_to_none(difference, text):
    assert bare_points(difference) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.9999, ">0.999"), (0.9994, "0.999"), (0.0001, "<0.001"), (0.5, "0.500"), (None, "–")],
)
def test_probabilities_never_round_to_certainty(probability, text):
    assert probability_text(probability) == text


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
