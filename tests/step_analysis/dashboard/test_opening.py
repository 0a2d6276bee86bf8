"""What is answered while the numerics are still being imported."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from step_analysis.dashboard import app
from step_analysis.dashboard.app import Dashboard
from step_analysis.dashboard.folder import ResultsFolder
from step_analysis.dashboard.serving import serve as serve_until_stopped


def test_the_server_needs_no_numerics() -> None:
    code = (
        "import sys, step_analysis.dashboard.serving\n"
        "print([name for name in ('numpy', 'scipy', 'PIL') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_the_first_page_is_there_at_once_and_its_content_follows(
    tmp_path: Path,
    serve: Any,
    numerics: threading.Event,
    write_evaluation: Callable[..., Path],
) -> None:
    write_evaluation(tmp_path / "a", "a", {"PickCup": "10"})
    with serve(tmp_path, wait=False) as served, ThreadPoolExecutor() as threads:
        opening = served.get("/overview")
        assert opening.status == 200
        assert f"{tmp_path} is being read" in opening.text
        assert "script-src 'self'" in opening.headers["content-security-policy"]
        for name in ("dashboard.css", "page.js", "live.js", "icon.svg", "font-regular.ttf"):
            assert served.get(f"/assets/{name}").status == 200
        # The page's script asks so; it and all other addresses are answered when they can be.
        live = threads.submit(served.get, "/overview", X_Part="live")
        wrong = threads.submit(served.get, "/overview?alpah=0.1")
        health = threads.submit(served.get, "/health")
        assert not live.done()
        numerics.set()
        assert '<nav class="views"' in live.result(timeout=60).text
        assert wrong.result(timeout=60).status == 400
        assert health.result(timeout=60).status == 200
        served.wait(lambda: "a succeeds in 1 of 2" in served.get("/overview").text)


def test_counts_need_neither_scipys_functions_nor_pillow(
    tmp_path: Path, write_evaluation: Callable[..., Path]
) -> None:
    for number in range(26):
        write_evaluation(tmp_path / f"p{number}", f"p{number}", {"PickCup": "10" * 9 + "111"})
    code = f"""
import sys
from pathlib import Path
from starlette.requests import Request
from step_analysis.dashboard.answers import Answers
from step_analysis.dashboard.folder import ResultsFolder

answers = Answers(Path({str(tmp_path)!r}), on_done=lambda: None)
answers._analyses.begin = lambda: None
ResultsFolder(
    root=Path({str(tmp_path)!r}), publish=lambda shown: setattr(answers, "snapshot", shown)
).look()
asked = {{"type": "http", "path": "/overview", "query_string": b"", "headers": []}}
page = answers.page(Request({{**asked, "path_params": {{"view": "overview"}}}})).body.decode()
print("12 of 21" in page, [name for name in ("scipy.special", "PIL") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True []\n"


def test_what_is_not_installed_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "step_analysis.dashboard.answers")
    monkeypatch.setitem(sys.modules, "step_analysis.dashboard.analyses", None)
    with pytest.raises(ImportError, match=r"step_analysis\.dashboard\.analyses"):
        _serve_until_stopped(tmp_path)


@pytest.mark.parametrize("name", ["scipy", "PIL"])
def test_what_is_needed_only_later_and_not_installed_ends_the_server_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "find_spec", lambda asked: None if asked == name else find_spec(asked))
    with pytest.raises(ModuleNotFoundError, match=name):
        _serve_until_stopped(tmp_path)


def test_a_folder_that_can_t_be_looked_at_any_more_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(folder: ResultsFolder) -> None:
        raise MemoryError("of looking")

    monkeypatch.setattr(ResultsFolder, "look", look)
    with pytest.raises(MemoryError, match="of looking"):
        _serve_until_stopped(tmp_path)


def _serve_until_stopped(folder: Path) -> None:
    serve_until_stopped(
        Dashboard(folder),
        host="127.0.0.1",
        port=0,
        allowed_hosts=(),
        token=None,
        announce=lambda address: None,
    )
