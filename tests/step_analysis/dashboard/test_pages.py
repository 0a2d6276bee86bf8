"""What the dashboard answers, over HTTP."""

import csv
import html
import io
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from step_analysis.dashboard.views import VIEWS
from step_analysis.intervals import clopper_pearson

TOKEN = "a-token-of-this-test"  # noqa: S105 - nobody's secret
_FILM = b"film" * 500


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory,
    write_evaluation: Callable[..., Path],
    write_policies: Callable[..., None],
) -> Path:
    root = tmp_path_factory.mktemp("dashboard") / "results"
    write_policies(root, 3)
    write_evaluation(root / "bright", "policy 0", {"PickCup": "0" * 20}, shift="lighting=high")
    write_evaluation(root / "x", "<script>alert(1)</script>", {"PickCup": "01" * 10})
    film = root / "policy_0/PickCup/rollouts/2026-01-31T12-00-00/pick_cup/demonstration_3"
    film.mkdir(parents=True)
    (film / "cameras.mp4").write_bytes(_FILM)
    return root


@pytest.fixture(scope="module")
def served(root: Path, serve: Any) -> Iterator[Any]:
    with serve(root) as dashboard:
        dashboard.wait(dashboard.has_verdicts)
        yield dashboard


def test_a_study_shows_its_own_verdicts_by_its_locked_design(
    serve: Any, example_study: Path
) -> None:
    with serve(example_study) as dashboard:
        dashboard.wait(dashboard.has_verdicts)
        page = dashboard.get("/overview").text
        assert "the verdicts are its own, by the sequential McNemar test" in page
        assert "final is better than step_000150 on PickAndPlaceBox (13 against 3 of 13)" in page
        # 27 rollouts were run: the 14th of one policy is in no rate.
        rows = dashboard.get("/data/overview.json").json()["tables"]["rates"]
        assert [(row["policy"], row["successes"], row["counted"]) for row in rows] == [
            ("final", 13, 13),
            ("step_000150", 3, 13),
        ]
        for view in VIEWS:
            assert dashboard.get(f"/{view}").status == 200
        other = "/overview?alpha=0.1"
        assert "this page's own choice" in html.unescape(dashboard.get(other).text)


def test_a_study_that_has_just_begun_or_is_not_its_own_is_shown_all_the_same(
    serve: Any, example_study: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(example_study, begun)
    ledger = begun / "final" / "ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:2]))
    (begun / "step_000150" / "ledger.jsonl").unlink()
    foreign = tmp_path / "foreign"
    shutil.copytree(example_study, foreign)
    design = json.loads((foreign / "study.json").read_text())
    (foreign / "study.json").write_text(json.dumps(design | {"first_seed": 7}))
    broken = tmp_path / "broken"
    shutil.copytree(example_study, broken)
    (broken / "study.json").write_text("{}")
    for root, told in (
        (begun, "the verdicts are its own"),
        (foreign, "every policy of this study meets seed"),
        (broken, "1 file can't be read"),
    ):
        with serve(root) as dashboard:
            dashboard.wait(dashboard.has_verdicts)
            assert told in html.unescape(dashboard.get("/overview").text)
            assert {dashboard.get(f"/{view}").status for view in VIEWS} == {200}


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_there_and_nothing_in_a_name_is_markup(served: Any, view: str) -> None:
    answer = served.get(f"/{view}")
    assert answer.status == 200
    assert f'aria-current="page">{VIEWS[view].title}' in answer.text
    assert "<script>alert" not in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_the_page_says_the_verdict_and_the_export_the_numbers(served: Any) -> None:
    answer = served.get("/data/overview.json?" + urlencode({"policy": "policy 0"}))
    document: Any = answer.json()
    rate = next(row for row in document["tables"]["rates"] if row["panel"] == "PickCup")
    assert (rate["successes"], rate["counted"], rate["errors"]) == (3, 19, 1)
    assert (rate["lower"], rate["upper"]) == pytest.approx(tuple(clopper_pearson(3, 19)))
    assert "policy 0 succeeds in" in served.get("/overview?policy=policy+0").text


def test_the_path_walks_to_where_the_test_stops(served: Any) -> None:
    query = urlencode({"first": "policy 2", "second": "policy 1", "one_task": "PickCup"})
    document: Any = served.get(f"/data/evidence.json?{query}").json()
    steps = document["tables"]["path"]
    assert [step["episodes"] for step in steps] == list(range(20))
    assert steps[0]["lead"] == 0
    leads = [step["lead"] for step in steps]
    assert all(abs(later - lead) <= 1 for lead, later in pairwise(leads))
    assert {steps[0]["upper"], steps[0]["lower"]} == {"policy 1", "policy 2"}
    assert any(step["upper_stops_at"] is not None for step in steps)


def test_errors_are_apart_from_failures(served: Any) -> None:
    document: Any = served.get("/data/errors.json").json()
    errors = document["tables"]["errors"]
    assert {row["policy"] for row in errors} == {"policy 0", "policy 1", "policy 2"}
    assert not any(row["settled"] for row in errors)
    findings = document["tables"]["findings"]
    assert any(row["code"] == "unresolved-errors" for row in findings) or findings


def test_shifts_are_set_against_nominal(served: Any) -> None:
    document: Any = served.get("/data/shifts.json?policy=policy+0").json()
    bright = next(
        row for row in document["tables"]["shifts"] if row["condition"] == "lighting=high"
    )
    assert bright["against_nominal"] == pytest.approx(-3 / 19)
    assert served.get("/overview?condition=lighting%3Dhigh").text.count("0/20") > 0


def test_csv_holds_no_formula(
    tmp_path: Path, serve: Any, write_evaluation: Callable[..., Path]
) -> None:
    write_evaluation(tmp_path / "a", "=1+1", {"PickCup": "10"})
    with serve(tmp_path) as served:
        answer = served.get("/data/overview/rates.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert rows[0]["policy"] == "'=1+1"


@pytest.mark.parametrize(
    ("suffix", "beginning"),
    [("svg", b"<?xml"), ("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-")],
)
def test_figures_are_taken_away(served: Any, suffix: str, beginning: bytes) -> None:
    light = served.get(f"/figure/overview/posteriors.{suffix}")
    dark = served.get(f"/figure/overview/posteriors.{suffix}?theme=dark")
    assert light.status == 200
    assert light.body.startswith(beginning)
    assert light.body != dark.body


def test_films_are_sent_in_parts_and_nothing_else_is(served: Any) -> None:
    what = {"condition": "nominal", "policy": "policy 0", "task": "PickCup", "scenario": "3"}
    part = served.get(f"/video?{urlencode(what)}", Range="bytes=4-7")
    assert (part.status, part.body) == (206, b"film")
    for changed in (
        {"scenario": "4"},
        {"task": "../PickCup"},
        {"scenario": "../3"},
        {"policy": ""},
    ):
        assert served.get(f"/video?{urlencode(what | changed)}").status == 404
    assert "<video" in served.get("/failures?first=policy+0&episodes=all").text


def test_a_link_out_of_the_folder_is_not_followed(
    tmp_path: Path, serve: Any, write_evaluation: Callable[..., Path]
) -> None:
    root = tmp_path / "results"
    write_evaluation(root / "a", "a", {"PickCup": "0"})
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    film = root / "a/PickCup/rollouts/2026-01-31T12-00-00/pick_cup/demonstration_0"
    film.mkdir(parents=True)
    (film / "cameras.mp4").symlink_to(secret)
    what = {"condition": "nominal", "policy": "a", "task": "PickCup", "scenario": "0"}
    with serve(root) as served:
        assert served.get(f"/video?{urlencode(what)}").status == 404


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/overview?alpah=0.1", 400, "did you mean alpha?"),
        ("/overview?alpha=2", 400, "alpha: a number from 0.0001 to 0.4 expected"),
        ("/overview?method=magic", 400, "method: one of auto"),
        ("/overview?page=-1", 400, "page: a number from 1"),
        ("/" + quote("no<view>"), 404, "there is overview"),
        ("/figure/overview/nothing.svg", 404, "there is posteriors"),
        ("/assets/../app.py", 404, "no such page"),
        ("/a/b/c/d", 404, "no such page"),
    ],
)
def test_what_is_not_there_is_said(served: Any, path: str, status: int, text: str) -> None:
    answer = served.get(path)
    assert answer.status == status
    assert text in answer.text
    assert "<view>" not in answer.text


def test_names_that_are_gone_are_told_of(served: Any) -> None:
    assert "Not in this folder: policy 9" in served.get("/overview?policy=policy+9").text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", ""])
def test_another_name_is_refused(served: Any, host: str) -> None:
    assert served.get("/overview", Host=host).status == 421


def test_it_only_reads(served: Any) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert served.get("/overview", method=method).status == 405


def test_a_token_is_asked_for_and_not_kept_in_the_address(root: Path, serve: Any) -> None:
    with serve(root, token=TOKEN) as served:
        for path in ("/overview", "/events", "/health", "/assets/page.js", "/video"):
            assert served.get(path).status == 401
        assert served.get("/health?token=wrong").status == 401
        answer = served.get(f"/overview?alpha=0.1&token={TOKEN}")
        assert (answer.status, answer.headers["location"]) == (303, "/overview?alpha=0.1")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert served.get("/health", Cookie=cookie.split(";")[0]).status == 200
        assert served.get("/health", Authorization=f"Bearer {TOKEN}").status == 200
        assert served.get("/health", Authorization="Bearer \u00e9").status == 401


def test_an_empty_folder_says_what_to_do(
    tmp_path: Path, serve: Any, write_evaluation: Callable[..., Path]
) -> None:
    with serve(tmp_path) as served:
        for view in VIEWS:
            assert served.get(f"/{view}").status == 200
        assert "sim-client evaluate" in served.get("/overview").text
        write_evaluation(tmp_path / "a", "a", {"PickCup": "10"})
        served.wait(lambda: "a succeeds in 1 of 2" in served.get("/overview").text)


@pytest.mark.parametrize("num_policies", [1, 12])
def test_one_policy_and_twelve(
    tmp_path: Path, serve: Any, num_policies: int, write_policies: Callable[..., None]
) -> None:
    write_policies(tmp_path, num_policies)
    with serve(tmp_path) as served:
        served.wait(served.has_verdicts)
        for view in VIEWS:
            assert served.get(f"/{view}").status == 200
        document: Any = served.get("/data/overview.json").json()
        assert len(document["tables"]["standing"]) == num_policies


def test_results_of_others_are_shown_as_they_change(tmp_path: Path, serve: Any) -> None:
    file = tmp_path / "model/PickCup/rollouts/2026-01-31/results.json"
    file.parent.mkdir(parents=True)
    entry = {"skill_type": "pick_cup", "scenario_index": 0, "is_pending": True, "is_success": None}
    done = entry | {"is_pending": False, "is_success": True, "total_time": 3.0}

    def write(entries: list[dict[str, Any]]) -> None:
        aside = file.with_suffix(".tmp")
        aside.write_text(json.dumps({"evaluations": entries}))
        shutil.move(aside, file)

    write([entry])
    with serve(tmp_path) as served:
        assert "0 of 1" in served.get("/overview").text
        write([done])
        served.wait(lambda: "1 of 1" in served.get("/overview").text)
