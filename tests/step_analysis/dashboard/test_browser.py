"""The dashboard in the system's Chromium, as a reader meets it."""

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from step_analysis.dashboard.views import VIEWS
from step_analysis.ledger import Ledger
from step_analysis.rollouts import Outcome

sync_api = pytest.importorskip("playwright.sync_api")

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = [
    pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of which nothing may go wrong, and which may load nothing from elsewhere."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    # Much else may run on the machine.
    context.set_default_timeout(120_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on(
        "request",
        lambda request: (
            "127.0.0.1" in request.url
            or request.url == "about:blank"
            or wrong.append(f"asked for {request.url}")
        ),
    )
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def served_to(serve: Any, page: Any) -> Any:
    """served_to(folder): its dashboard, which the page leaves before it ends."""

    @contextlib.contextmanager
    def visit(root: Path) -> Iterator[Any]:
        with serve(root) as served:
            yield served
            page.goto("about:blank")

    return visit


def _is_wider_than_window(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")


@pytest.mark.parametrize("num_policies", [0, 1, 12])
def test_every_view_by_any_number_of_policies(
    tmp_path: Path,
    served_to: Any,
    page: Any,
    write_policies: Callable[..., None],
    num_policies: int,
) -> None:
    write_policies(tmp_path, num_policies)
    with served_to(tmp_path) as served:
        if num_policies:
            served.wait(served.has_verdicts)
        for scheme, width in (("light", 1200), ("dark", 380)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            for name, view in VIEWS.items():
                page.goto(f"{served.address}/{name}")
                assert page.locator("nav.views [aria-current]").inner_text() == view.title
                assert not _is_wider_than_window(page), (name, width)
                for figure in page.locator("figure").all():
                    assert figure.locator("svg:visible").count() == 1
                    assert figure.locator("figcaption").inner_text()


def test_what_is_opened_before_anything_is_read_shows_it_by_itself(
    tmp_path: Path,
    serve: Any,
    page: Any,
    numerics: threading.Event,
    write_evaluation: Callable[..., Path],
) -> None:
    write_evaluation(tmp_path / "a", "a", {"PickCup": "10"})
    with serve(tmp_path, wait=False) as served:
        page.goto(f"{served.address}/overview")
        page.get_by_text("is being read").wait_for()
        numerics.set()
        page.get_by_text("a succeeds in 1 of 2").wait_for()
        assert page.locator("nav.views [aria-current]").inner_text() == "Overview"
        page.goto("about:blank")


def test_episodes_appear_as_they_are_written(
    tmp_path: Path,
    served_to: Any,
    page: Any,
    record: Any,
    write_evaluation: Callable[..., Path],
) -> None:
    path = write_evaluation(tmp_path / "a", "a", {"PickCup": "10"})
    with served_to(tmp_path) as served, Ledger(path) as ledger:
        page.goto(f"{served.address}/overview")
        page.get_by_text("2 of 20").wait_for()
        page.get_by_text("1 evaluation is running").wait_for()
        page.locator("#filters summary").click()
        page.locator("#filters summary").evaluate("each => each.blur()")
        ledger.append(record("a", "PickCup", 2, Outcome.SUCCESS))
        page.get_by_text("3 of 20").wait_for()
        # What a reader had opened stays so.
        assert page.locator("#filters").get_attribute("open") is not None


def test_a_corrupt_file_that_arrives_is_told_of(
    tmp_path: Path, served_to: Any, page: Any, write_evaluation: Callable[..., Path]
) -> None:
    write_evaluation(tmp_path / "a", "a", {"PickCup": "10"})
    with served_to(tmp_path) as served:
        page.goto(f"{served.address}/tasks")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "ledger.jsonl").write_text("nonsense\n")
        notice = page.get_by_text("1 file can't be read")
        notice.wait_for()
        notice.click()
        page.get_by_text("file-not-readable").wait_for()


def test_filters_are_in_the_address_and_the_keyboard_reaches_them(
    tmp_path: Path, served_to: Any, page: Any, write_policies: Callable[..., None]
) -> None:
    write_policies(tmp_path, 3)
    with served_to(tmp_path) as served:
        served.wait(served.has_verdicts)
        page.goto(f"{served.address}/overview")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        summary = page.locator("#filters summary")
        for _ in range(20):
            page.keyboard.press("Tab")
            if summary.evaluate("each => each === document.activeElement"):
                break
        page.keyboard.press("Enter")
        page.get_by_label("policy 1").check()
        page.get_by_role("button", name="Apply").click()
        page.wait_for_url("**/overview?*policy=policy+1*")
        page.get_by_text("there is no second policy").wait_for()
        page.get_by_role("link", name="Tasks").click()
        page.wait_for_url("**/tasks?*policy=policy+1*")


def test_the_theme_is_kept_and_figures_say_their_numbers(
    tmp_path: Path, served_to: Any, page: Any, write_policies: Callable[..., None]
) -> None:
    write_policies(tmp_path, 2)
    with served_to(tmp_path) as served:
        served.wait(served.has_verdicts)
        page.goto(f"{served.address}/overview")
        for _ in range(2):
            page.locator("#theme").click()
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.locator("#posteriors svg.wide [data-t]").first.hover()
        assert "95 % interval" in page.locator("#tip").inner_text()
        head = page.locator("table.sortable").first.locator("th", has_text="Episodes")
        head.focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
