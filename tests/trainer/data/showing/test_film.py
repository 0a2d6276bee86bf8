"""A film shows every step, the hands where they are, and the cursor where the time is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from policy_interface.usage import UsageError
from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.formats.memory import ArrayEpisode
from trainer.data.showing.film import Film, write_film
from trainer.data.showing.rerun_recording import write_recording

NUM_STEPS = 12
FRAME = "table"


def make_episode(**changes: Any) -> ArrayEpisode:
    """A hand that crosses the view of a camera from left to right, a metre away."""
    poses = np.tile(np.eye(4), (NUM_STEPS + 1, 1, 1))
    poses[:, 0, 3] = np.linspace(-0.3, 0.3, NUM_STEPS + 1)
    poses[:, 2, 3] = 1.0
    field = Field(shape=(4, 4), kind="pose", role="observed", unit="m", frame=FRAME, part="right")
    action = Field(shape=(4, 4), kind="pose", role="action", unit="m", frame=FRAME, part="right")
    images = {name: np.full((NUM_STEPS, 48, 64, 3), 90, np.uint8) for name in ("scene", "blind")}
    arguments: dict[str, Any] = {
        "fields": {"actual": (field, poses[:-1]), "action": (action, poses[1:])},
        "images": images,
        "intrinsics": {
            "scene": np.tile([[80.0, 0, 31.5], [0, 80, 23.5], [0, 0, 1]], (NUM_STEPS, 1, 1))
        },
        "extrinsics": {"scene": np.tile(np.eye(4), (NUM_STEPS, 1, 1))},
        "camera_frame": FRAME,
        "task": "cross",
        "instructions": {"original": ("Go to the right.",)},
        "success": True,
    }
    arguments["rate_hz"] = 5.0
    return ArrayEpisode.make("episode_000000", **(arguments | changes))


def decoded(path: Path) -> tuple[list[Image.Image], float]:
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        return [frame.to_image() for frame in container.decode(video=0)], float(rate)


def columns_of(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.int64]:
    near = np.abs(picture.astype(int) - colour).max(axis=-1) < 30
    return np.nonzero(near)[1]


def test_every_step_is_a_frame_at_the_episodes_rate(tmp_path: Path) -> None:
    write_film(Film(make_episode(), width=640), tmp_path / "film.mp4", speed=2.0)
    frames, rate = decoded(tmp_path / "film.mp4")
    assert len(frames) == NUM_STEPS
    assert rate == 10.0
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_the_trace_is_where_the_hand_is() -> None:
    film = Film(make_episode(), width=640)
    pictures = [np.asarray(picture) for picture in film.pictures()]
    x, y, width, height = film.tiles["scene"]
    for step in (0, 6, 11):
        # The white dot of the hand, which projects to 32 + 80 x of 64 pixels.
        tile = pictures[step][y : y + height, x : x + width]
        white = columns_of(tile, (232, 234, 237))
        expected = (32 + 80 * np.linspace(-0.3, 0.3, NUM_STEPS + 1)[step]) / 64 * width
        assert white.mean() == pytest.approx(expected, abs=2)
    # Behind the hand a line, before it dots; at the last step one action is left to come.
    tile = pictures[6][y : y + height, x : x + width]
    # Faint at their ends, over a grey picture.
    coloured = np.nonzero(np.ptp(tile, axis=-1) > 20)[1]
    assert coloured.min() < 0.3 * width
    assert coloured.max() > 0.7 * width


def test_a_camera_that_does_not_know_where_it_is_shows_no_trace() -> None:
    film = Film(make_episode(), width=640)
    x, y, width, height = film.tiles["blind"]
    for picture in film.pictures():
        tile = np.asarray(picture)[y : y + height, x : x + width]
        assert (tile == 90).all()


def test_the_cursor_moves_over_the_curves() -> None:
    film = Film(make_episode(), width=640)
    first, *_, last = (np.asarray(picture) for picture in film.pictures())
    (x, y, width, height), *_ = film.panels
    changed = np.nonzero(
        (first[y : y + height, x : x + width] != last[y : y + height, x : x + width]).any(
            axis=(0, 2)
        )
    )[0]
    # Near the left end of the axis in the first picture, at the right end in the last, not between.
    assert changed.min() < 0.2 * width
    assert changed.max() > 0.9 * width
    assert not ((changed > 0.3 * width) & (changed < 0.8 * width)).any()


def test_an_episode_without_cameras_is_its_curves() -> None:
    film = Film(make_episode(images={}, intrinsics={}, extrinsics={}), width=640)
    assert len(list(film.pictures())) == NUM_STEPS
    assert film.panels


def test_numbers_that_are_not_finite_are_left_out_of_the_curves() -> None:
    torques = np.full((NUM_STEPS, 2), np.nan)
    torques[3:6, 0] = 1.0
    field = Field(shape=(2,), role="observed", unit="Nm", names=("shoulder", "elbow"))
    film = Film(make_episode(fields={"torque": (field, torques)}), width=640)
    assert len(list(film.pictures())) == NUM_STEPS


def test_an_episode_that_tells_no_times_plays_at_the_default_rate(tmp_path: Path) -> None:
    episode = make_episode(times_s=np.full(NUM_STEPS, np.nan), rate_hz=None)
    write_film(Film(episode, width=640), tmp_path / "film.mp4")
    pictures, rate_hz = decoded(tmp_path / "film.mp4")
    assert (len(pictures), rate_hz) == (NUM_STEPS, 10.0)


def test_an_instruction_as_long_as_a_library_is_shortened() -> None:
    words = "Go to the right. " * 100_000
    long = make_episode(instructions={"original": (words,)}, task=words)
    assert Film(long, width=640).size == Film(make_episode(), width=640).size


def test_what_is_plotted_can_be_chosen_and_a_misspelt_field_is_told() -> None:
    assert len(Film(make_episode(), fields=["action"], width=640).panels) == 1
    with pytest.raises(DataError, match="did you mean 'action'"):
        Film(make_episode(), fields=["acton"])


def test_nothing_stays_behind_where_a_film_is_broken_off(tmp_path: Path) -> None:
    def interrupt(pictures: Iterator[Image.Image]) -> Iterator[Image.Image]:
        yield next(pictures)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(Film(make_episode(), width=640), tmp_path / "film.mp4", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_without_rerun_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    with pytest.raises(UsageError, match="pip install rerun-sdk"):
        write_recording(make_episode(), tmp_path / "recording.rrd")
    assert list(tmp_path.iterdir()) == []


def test_rerun_recording_holds_cameras_hands_and_curves(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is an optional package")
    write_recording(make_episode(), tmp_path / "recording.rrd")
    assert [path.name for path in tmp_path.iterdir()] == ["recording.rrd"]
    content = (tmp_path / "recording.rrd").read_bytes()
    assert content.startswith(b"RRF")
    for path in (b"world/scene", b"cameras/blind", b"world/right/trail", b"plots/panel_0"):
        assert path in content
