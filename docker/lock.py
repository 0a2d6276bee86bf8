"""Write docker/locks: every package of every image, by version and by the hashes of its files.

    python docker/lock.py           resolve anew, which needs uv (`pip install uv`) and an index
    python docker/lock.py --check   only say whether the locks are those of pyproject.toml

`torch-cpu.txt` is made of the CPU build that `--torch-wheel` names, since pip's default index has
none for x86-64, and of the default index's builds for ARM, which are CPU builds.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from requirements import requirements

LOCKS = Path(__file__).parent / "locks"
EXTRAS = ("serve", "sim", "analysis", "train", "ray-node", "build-system")
# The oldest Python that a base image may have.
PYTHON_VERSION = "3.11"
# Of Debian 12, with glibc 2.36.
_PLATFORM = "x86_64-manylinux_2_36"
_SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
_PREFIX = "# of requirements: sha256:"


def digest(extra: str) -> str:
    """Of all that a lock is made from."""
    lines = [*requirements(extra), *_constraints()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def stale() -> list[str]:
    """The locks that are not of today's pyproject.toml and constraints.txt."""
    return [extra for extra in EXTRAS if _locked_digest(extra) != digest(extra)]


def _locked_digest(extra: str) -> str:
    path = LOCKS / f"{extra}.txt"
    first_line = path.read_text("utf-8").partition("\n")[0] if path.exists() else ""
    return first_line.removeprefix(_PREFIX)


def _constraints() -> list[str]:
    lines = Path("constraints.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _compile(lines: list[str], *options: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "wanted.in")
        wanted.write_text("\n".join(lines), "utf-8")
        result = subprocess.run(
            [
                *("uv", "pip", "compile", "--no-config", "--generate-hashes", "--no-header"),
                *("--no-annotate", "--python-version", PYTHON_VERSION),
                *("--python-platform", _PLATFORM, "--only-binary", ":all:"),
                *(*options, str(wanted)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return result.stdout


def _write(name: str, head: str, body: str) -> None:
    (LOCKS / name).write_text(f"{head}\n{body}", "utf-8")
    print(f"{LOCKS / name}: {body.count('==')} packages")


def _lock_extra(extra: str, torch_wheel: Path) -> None:
    body = _compile(
        requirements(extra),
        *(
            "--constraint",
            "constraints.txt",
            "--find-links",
            str(torch_wheel.parent),
            "--no-emit-package",
            "torch",
        ),
    )
    _write(f"{extra}.txt", f"{_PREFIX}{digest(extra)}", body)


def _lock_torch(torch_wheel: Path) -> None:
    (pin,) = (line for line in _constraints() if line.startswith("torch=="))
    version = pin.removeprefix("torch==")
    index = urllib.request.Request(
        "https://pypi.org/simple/torch/", headers={"Accept": _SIMPLE_JSON}
    )
    with urllib.request.urlopen(index) as answer:  # noqa: S310
        files = json.load(answer)["files"]
    arm = (f"torch-{version}-", "linux_2_28_aarch64.whl")
    hashes = [hashlib.sha256(torch_wheel.read_bytes()).hexdigest()]
    hashes += [
        file["hashes"]["sha256"]
        for file in files
        if file["filename"].startswith(arm[0]) and file["filename"].endswith(arm[1])
    ]
    _write(
        "torch-cpu.txt",
        f"# {torch_wheel.name}, and the default index's builds for ARM",
        f"{pin} \\\n" + " \\\n".join(f"    --hash=sha256:{each}" for each in hashes) + "\n",
    )
    serve = (LOCKS / "serve.txt").as_posix()
    _write("torch-cuda.txt", "# The default index's build", _compile([pin], "--constraint", serve))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether they are fresh")
    parser.add_argument("--torch-wheel", type=Path, help="the CPU build's file, x86-64")
    arguments = parser.parse_args()
    if arguments.check:
        names = stale()
        if names:
            print(f"stale: {', '.join(names)}; run docker/lock.py", file=sys.stderr)
        return 1 if names else 0
    if arguments.torch_wheel is None:
        parser.error("--torch-wheel: expected the file of torch's CPU build")
    LOCKS.mkdir(exist_ok=True)
    for extra in EXTRAS:
        _lock_extra(extra, arguments.torch_wheel)
    _lock_torch(arguments.torch_wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
