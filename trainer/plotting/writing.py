"""A gallery into a folder: NAME.png and NAME.html, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from trainer.atomic_file import atomic_file
from trainer.plotting.errors import PlottingError
from trainer.plotting.gallery import Gallery, sheet
from trainer.plotting.page import html_page
from trainer.plotting.palette import Scheme
from trainer.plotting.png import png_file


def write_gallery(gallery: Gallery, folder: Path, name: str, scheme: Scheme) -> list[Path]:
    """The files, which take the place of those of the same names. scheme: of the PNG; the page
    follows its reader's. Raises PlottingError where `folder` is a file, OSError."""
    if folder.exists() and not folder.is_dir():
        raise PlottingError(f"--output {folder}: expected a folder, got a file")
    contents = {
        f"{name}.png": png_file(sheet(gallery), scheme),
        f"{name}.html": html_page(gallery, f"{name}.png").encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, content in contents.items():
        with atomic_file(folder / file_name) as file:
            file.write(content)
    return [folder / file_name for file_name in contents]
