"""The picture for people."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from policy_interface.contract import ImageSize
from sim_client.picture import PictureConfig, main


def test_shows_the_task_in_colour(tmp_path: Path) -> None:
    output = tmp_path / "scene.png"
    size = ImageSize(height=72, width=128)
    assert main(PictureConfig(output=output, size=size)) == 0
    image = cv2.imread(str(output))
    assert image is not None
    assert image.shape == (72, 128, 3)
    blue, green, red = (image[..., i].astype(int) for i in range(3))
    assert ((red > 120) & (green < red // 2) & (blue < red // 2)).sum() > 5, "the box"
    assert ((blue > 90) & (red < blue // 2)).sum() > 20, "the bin"
    assert ((red > 200) & (green > 200) & (blue > 200)).sum() > 100, "the arms"


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(PictureConfig(task="PickAndPlaceBoxes", output=tmp_path / "scene.png")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Did you mean" in line
