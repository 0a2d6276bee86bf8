"""Print what the distribution, with the extras named as arguments, needs from others.

Installed first, these make an image layer that a change of our own sources does not rebuild.
`build-system` as an argument prints what building the wheel needs.
"""

import re
import sys
import tomllib
from pathlib import Path


def requirements(extra: str) -> list[str]:
    """The requirement lines of one extra (with the base distribution's), or of the build."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    if extra == "build-system":
        return pyproject["build-system"]["requires"]
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    if extra not in extras:
        sys.exit(f"no extra {extra!r} in pyproject.toml: it has {sorted(extras)}")
    lines = project["dependencies"]
    for line in extras[extra]:
        # An extra that stands on another: assay[data].
        inner = re.fullmatch(r"assay\[(.+)\]", line)
        lines = lines + (
            [each for name in inner[1].split(",") for each in extras[name]] if inner else [line]
        )
    return lines


if __name__ == "__main__":
    print("\n".join(line for extra in sys.argv[1:] for line in requirements(extra)))
