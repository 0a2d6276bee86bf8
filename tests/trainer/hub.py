"""A hub on loopback, for Hugging Face's own client: folders of models and data sets, to be read.

It has the part of the hub's interface that `huggingface_hub`'s file system asks for: what a
repository is, what a folder of it holds, and the bytes of a file, whole or in ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_SHA = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(tree|paths-info|revision)/[^/]+/?(.*))?"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)")


@contextmanager
def hub(root: Path) -> Iterator[str]:
    """root: models/OWNER/NAME/ and datasets/OWNER/NAME/. Yields the address, for HF_ENDPOINT."""

    class Handler(_Handler):
        folder = root

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if found := _API.fullmatch(path):
            self._tell(found, recursive=parse_qs(url.query).get("recursive") == ["true"])
        elif found := _FILE.fullmatch(path):
            kind = "datasets" if found[1] else "models"
            self._send_file(self.folder / kind / found[2] / found[3])
        else:
            self._send_error("EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        found = _API.fullmatch(unquote(urlsplit(self.path).path))
        assert found is not None
        repository = self.folder / found[1] / found[2]
        if not repository.is_dir():
            return self._send_error("RepoNotFound")
        paths = [repository / path for path in parse_qs(asked)["paths"]]
        self._send_json([_entry(path, repository) for path in paths if path.exists()])
        return None

    def _tell(self, found: re.Match[str], *, recursive: bool) -> None:
        kind, name, verb, path = found.groups()
        repository = self.folder / kind / name
        if not repository.is_dir():
            self._send_error("RepoNotFound")
        elif verb != "tree":
            self._send_json({"id": name, "sha": _SHA, "private": False, "tags": []})
        elif not (repository / path).is_dir():
            self._send_error("EntryNotFound")
        else:
            below = (repository / path).rglob("*") if recursive else (repository / path).iterdir()
            self._send_json([_entry(file, repository) for file in sorted(below)])

    def _send_file(self, file: Path) -> None:
        if not file.is_file():
            return self._send_error("EntryNotFound")
        content = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, content, "application/octet-stream", ETag=_digest(content))
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        return self._send(
            206,
            content[first : last + 1],
            "application/octet-stream",
            **{"Content-Range": f"bytes {first}-{last}/{len(content)}", "ETag": _digest(content)},
        )

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _send_error(self, code: str) -> None:
        self._send(404, b"{}", "application/json", **{"X-Error-Code": code})

    def _send(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        headers |= {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in {"X-Repo-Commit": _SHA, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base names it so
        """Requests are not told."""


def _entry(path: Path, repository: Path) -> dict[str, object]:
    where = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": where, "oid": _SHA, "size": 0}
    content = path.read_bytes()
    return {"type": "file", "path": where, "oid": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
