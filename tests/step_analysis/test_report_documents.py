"""What a report is besides its page: caveats by kind, tables for LaTeX, a PDF."""

import re
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from step_analysis.comparison import compare
from step_analysis.doctor.examination import examine
from step_analysis.ledger import DESIGN_FILE_NAME, LEDGER_FILE_NAME, write_design
from step_analysis.loading import load_rollouts
from step_analysis.report.caveats import caveats
from step_analysis.report.content import build_content
from step_analysis.report.document import pdf_report
from step_analysis.report.latex import latex_tables
from step_analysis.report.markdown import markdown
from step_analysis.report.page import html_page
from step_analysis.report.typeface import WEIGHTS, typeface
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutRecord

TASK = "PickAndPlaceBox"
HOSTILE = r"\input{x} $a_b$ 50 % #1 & {c} ~^ <b>|"


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """contents("clean") and contents("doubtful"): reports of two policies."""

    def write(root: Path, policy: str, letters: str, *, budget: int, early: int) -> None:
        root.mkdir(parents=True)
        design = EvaluationDesign(
            policy=policy,
            policy_digest=policy,
            tasks=(TASK,),
            num_episodes=len(letters),
            max_sample_size=budget,
            station={"simulator": "drake"},
        )
        write_design(root / DESIGN_FILE_NAME, design)
        outcomes = {"1": Outcome.SUCCESS, "0": Outcome.FAILURE, "e": Outcome.ERROR}
        lines = [
            RolloutRecord(
                policy=policy,
                task=TASK,
                scenario_index=index,
                seed=100_000_100 + index,
                outcome=outcomes[letter],
                duration_s=0.1 if index < early else 7.5,
                num_control_steps=1 if index < early else 75,
                started_at=f"2026-01-31T12:{index % 60:02d}:00+00:00",
                wall_s=4.0,
            ).to_json()
            for index, letter in enumerate(letters)
            if letter in outcomes
        ]
        (root / LEDGER_FILE_NAME).write_text("".join(f"{line}\n" for line in lines))

    made = {}
    for name, second, budget, early in (
        ("clean", "1" * 24, 24, 0),
        ("doubtful", "1" * 9 + "e" + "_" + "1" * 13, 40, 5),
    ):
        root = tmp_path_factory.mktemp(name)
        write(root / "a", "a", "10" * 3 + "0" * 18, budget=24, early=0)
        write(root / "b", HOSTILE, second, budget=budget, early=early)
        policies = load_rollouts([root])
        made[name] = build_content(
            compare(policies, method="paired"),
            confidence=0.95,
            arguments=["report"],
            findings=examine(policies),
        )
    return made


def test_each_kind_of_doubt_has_its_caveat_found_or_not(contents):
    kinds = ["Pre-solved scenes", "Errors", "Unequal budgets", "Missing seeds", "Peeking"]
    clean = caveats(contents["clean"])
    assert [each.about for each in clean][:5] == kinds
    assert not any(each.findings for each in clean[:5])
    doubtful = {each.about: each for each in caveats(contents["doubtful"])}
    for kind in kinds[:4]:
        assert doubtful[kind].findings, kind
    assert sum(len(each.findings) for each in doubtful.values()) == len(
        contents["doubtful"].findings
    )
    for content in contents.values():
        page, text = html_page(content, {}), markdown(content, {})
        assert "## Caveats" in text
        assert all(f"<dt>{kind}</dt>" in page and f"**{kind}**" in text for kind in kinds)


def test_what_a_table_does_not_keep_is_not_said_to_be_in_order(tmp_path):
    rows = [f"{policy},t,{i},{int(i % 3 < k)}" for k, policy in ((1, "u"), (2, "v"))
            for i in range(20)]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(["policy,task,episode,success", *rows, ""]))
    policies = load_rollouts([tmp_path / "t.csv"])
    content = build_content(
        compare(policies), confidence=0.95, arguments=[], findings=examine(policies)
    )
    by_kind = {each.about: each for each in caveats(content)}
    found = {kind: [f.code for f in each.findings] for kind, each in by_kind.items()}
    assert found["Pre-solved scenes"] == ["durations-not-recorded"]
    assert found["Missing seeds"] == ["seeds-not-recorded"]
    assert all(f.severity == "note" for f in by_kind["Missing seeds"].findings)


def test_latex_tables_are_whole_and_names_are_no_commands(contents):
    text = latex_tables(contents["clean"])
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    (row,) = [line for line in text.splitlines() if line.startswith("a &")]
    assert row == r"a & 3/24 & 12 \% & 2.7--32.4 \% & b \\"
    hostile = (
        r"\textbackslash{}input\{x\} \$a\_b\$ 50 \% \#1 \& \{c\} "
        r"\textasciitilde{}\textasciicircum{} \textless{}b\textgreater{}\textbar{}"
    )
    assert f"{hostile} & 24/24 & 100 \\%" in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for line in text.splitlines()[1:]:
        assert not re.search(r"(?<!\\)[%#_]", line) or line.startswith(r"\label")


def test_in_latex_a_name_is_no_argument_of_the_row_above(contents):
    content = contents["clean"]
    panel = content.panels[0]
    rates = [
        replace(row, policy=name) for row, name in zip(panel.rates, ("[9ex]", "*"), strict=True)
    ]
    text = latex_tables(replace(content, panels=(replace(panel, rates=tuple(rates)),)))
    assert not re.search(r"\\\\\s*[\[*]", text)
    assert "{[}9ex] & " in text


def _text_of(data: bytes) -> str:
    """What the pages show, by the glyphs' codes."""
    characters = {
        weight: {
            glyph: chr(code) for code, glyph in reversed(list(typeface(weight).glyphs.items()))
        }
        for weight in WEIGHTS
    }
    lines = []
    for stream in re.findall(rb"stream\n(.*?)\nendstream", data, re.DOTALL):
        content = zlib.decompress(stream).decode("latin-1")
        for weight, codes in re.findall(r"BT /(\w+) .*? <([0-9a-f]+)> Tj", content):
            glyphs = (int(codes[i : i + 4], 16) for i in range(0, len(codes), 4))
            lines.append("".join(characters[weight].get(glyph, "?") for glyph in glyphs))
    return "\n".join(lines)


def test_a_pdf_says_what_the_report_says(contents):
    content = contents["doubtful"]
    data = pdf_report(content, {})
    assert data == pdf_report(content, {})
    text = _text_of(data)
    for wanted in ("Caveats", "Pre-solved scenes", "How this was worked out", "3/24", "1 of "):
        assert wanted in text
    pages = re.search(rb"/Count (\d+)", data)
    assert pages is not None
    assert data.count(b"/Type /Page ") == int(pages[1]) >= 1
    assert " ".join(content.headline.split())[:40] in text
