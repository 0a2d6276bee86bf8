"""Each check finds the fault that is planted for it, says where it is, and finds none elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trainer.data.doctor.catalog import CHECKS
from trainer.data.doctor.content import shared_findings
from trainer.data.doctor.examination import examine
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.episode import Dataset, Episode, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.formats.memory import MemoryDataset

# Of conftest.py: what an episode is made of, and what makes a data set of it.
Parts = Any
MakeDataset = Callable[..., MemoryDataset]
Plant = Callable[[Parts], None]

POSE, GRIPPER, JOINTS = "actual/pose", "actual/width", "actual/joints"
ACTION_POSE, ACTION_GRIPPER = "action/pose", "action/width"
HIGH, LOW = "high", "low"


def nan_once(made: Parts) -> None:
    made.arrays[POSE] = made.arrays[POSE].copy()
    made.arrays[POSE][7, 0, 3] = np.nan


def never_recorded(made: Parts) -> None:
    made.fields["wrench"] = Field(shape=(6,), kind="wrench", role="observed", part="right")
    made.arrays["wrench"] = np.full((len(made.times_s), 6), np.nan)


def dead_sensor(made: Parts) -> None:
    made.arrays[POSE] = np.repeat(made.arrays[POSE][:1], len(made.times_s), axis=0)


def idle_arm(made: Parts) -> None:
    made.fields["idle"] = replace(made.fields[POSE], part="left")
    made.arrays["idle"] = np.repeat(made.arrays[POSE][:1], len(made.times_s), axis=0)


def gap(made: Parts) -> None:
    made.times_s = made.times_s + np.where(np.arange(len(made.times_s)) > 30, 0.5, 0)


def backwards(made: Parts) -> None:
    made.times_s = made.times_s.copy()
    made.times_s[10] = made.times_s[9]


def uneven(made: Parts) -> None:
    made.times_s = made.times_s + 0.04 * (-1) ** np.arange(len(made.times_s))


def other_rate(made: Parts) -> None:
    made.times_s, made.rate_hz = made.times_s / 3, 30.0


def wrongly_declared_rate(made: Parts) -> None:
    made.rate_hz = 20.0


def late_actions(made: Parts) -> None:
    made.arrays[ACTION_POSE] = np.concatenate(
        [np.repeat(made.arrays[ACTION_POSE][:1], 3, axis=0), made.arrays[ACTION_POSE][:-3]]
    )


def stale_observations(made: Parts) -> None:
    made.arrays[POSE] = np.concatenate(
        [np.repeat(made.arrays[POSE][:1], 5, axis=0), made.arrays[POSE][:-5]]
    )


def copied_actions(made: Parts) -> None:
    made.arrays[ACTION_POSE] = made.arrays[POSE]


def inverted_gripper(made: Parts) -> None:
    made.arrays[ACTION_GRIPPER] = 0.1 - made.arrays[ACTION_GRIPPER]


def percent_gripper(made: Parts) -> None:
    made.arrays[GRIPPER] = made.arrays[GRIPPER] * 1000


def unlike_grippers(made: Parts) -> None:
    made.arrays[ACTION_GRIPPER] = made.arrays[ACTION_GRIPPER] / 0.08
    made.fields[ACTION_GRIPPER] = replace(made.fields[ACTION_GRIPPER], unit=None)


def bent_rotation(made: Parts) -> None:
    made.arrays[POSE] = made.arrays[POSE].copy()
    made.arrays[POSE][20:25, :3, 0] *= 1.05


def mirrored_rotation(made: Parts) -> None:
    made.arrays[POSE] = made.arrays[POSE].copy()
    made.arrays[POSE][:, :3, 1] *= -1


def interleaved_called_rows(made: Parts) -> None:
    made.fields["turn"] = Field(shape=(6,), kind="rotation_6d_rows", role="observed", part="left")
    made.arrays["turn"] = made.arrays[POSE][:, :3, :2].reshape(-1, 6)


def columns_called_rows(made: Parts) -> None:
    made.fields["turn"] = Field(shape=(6,), kind="rotation_6d_rows", role="action", part="right")
    rotations = made.arrays[ACTION_POSE][:, :3, :3]
    made.arrays["turn"] = np.concatenate([rotations[:, :, 0], rotations[:, :, 1]], axis=1)


def turned_over(made: Parts) -> None:
    made.arrays[POSE] = made.arrays[POSE].copy()
    made.arrays[POSE][30:, :3, :2] *= -1


def teleported(made: Parts) -> None:
    made.arrays[POSE] = made.arrays[POSE].copy()
    made.arrays[POSE][30:, 2, 3] += 1.5


def millimetres(made: Parts) -> None:
    made.arrays[POSE] = made.arrays[POSE].copy()
    made.arrays[POSE][:, :3, 3] *= 1000


def degrees(made: Parts) -> None:
    made.arrays[JOINTS] = np.rad2deg(made.arrays[JOINTS])


def beyond_limits(made: Parts) -> None:
    made.arrays[JOINTS] = made.arrays[JOINTS] * np.array([1, 1, 1, -1, 1, 1, 1])


def wrapped(made: Parts) -> None:
    made.fields[JOINTS] = replace(made.fields[JOINTS], part="arm")
    made.arrays[JOINTS] = made.arrays[JOINTS].copy()
    made.arrays[JOINTS][30:, 6] += 2 * np.pi


def rare_spike(made: Parts) -> None:
    made.fields["button"] = Field(shape=(), role="action")
    made.arrays["button"] = 1e-6 * np.sin(np.arange(len(made.times_s)))
    if made.episode_id.endswith("3"):
        made.arrays["button"][10] = 1.0


def jitter(made: Parts) -> None:
    made.fields["jitter"] = Field(shape=(), role="observed")
    made.arrays["jitter"] = 1e-6 * np.sin(np.arange(len(made.times_s)))


def frozen_camera(made: Parts) -> None:
    made.images[HIGH] = np.repeat(made.images[HIGH][:1], len(made.times_s), axis=0)


def half_rate_camera(made: Parts) -> None:
    made.images[LOW] = np.repeat(made.images[LOW][::3], 3, axis=0)


def blind_camera(made: Parts) -> None:
    # It looks the other way: nothing that moves is in view.
    made.extrinsics[HIGH] = made.extrinsics[HIGH].copy()
    made.extrinsics[HIGH][:, 1:3, 1:3] *= -1
    made.images[HIGH] = np.repeat(made.images[HIGH][:1], len(made.times_s), axis=0)


def black(made: Parts) -> None:
    made.images[LOW] = made.images[LOW] // 64


def overexposed(made: Parts) -> None:
    made.images[LOW] = np.maximum(made.images[LOW], 252)


def one_colour(made: Parts) -> None:
    made.images[LOW] = (
        np.full_like(made.images[LOW], 90) + np.arange(60, dtype=np.uint8)[:, None, None, None]
    )


def swapped_cameras(made: Parts) -> None:
    made.images = {HIGH: made.images[LOW], LOW: made.images[HIGH]}


def pause(made: Parts) -> None:
    steps = np.concatenate([np.zeros(30, int), np.arange(len(made.times_s) - 30)])
    made.arrays = {name: array[steps] for name, array in made.arrays.items()}
    made.images = {name: frames[steps] for name, frames in made.images.items()}


def cut_short(made: Parts) -> None:
    made.arrays = {name: array[:4] for name, array in made.arrays.items()}
    made.images = {name: frames[:4] for name, frames in made.images.items()}
    made.times_s = made.times_s[:4]


def failed(made: Parts) -> None:
    made.facts["success"] = False


def outcome_unknown(made: Parts) -> None:
    made.facts["success"] = None


def no_instruction(made: Parts) -> None:
    made.facts["instructions"] = {"original": (" ",)}


def placeholder(made: Parts) -> None:
    made.facts["instructions"] = {"original": ("TODO",)}


def other_task(made: Parts) -> None:
    made.facts["task"] = "greet"


def extra_field(made: Parts) -> None:
    made.fields["extra"] = Field(shape=(), role="other")
    made.arrays["extra"] = np.zeros(len(made.times_s))


ALL, ONE, TWO = (0, 1, 2, 3, 4), (3,), (1, 3)
E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTE


@pytest.mark.parametrize(
    ("plant", "into", "check", "severity", "subject"),
    [
        (nan_once, ONE, "not-finite", E, POSE),
        (never_recorded, ALL, "not-finite", W, "wrench"),
        (dead_sensor, ONE, "frozen-field", E, POSE),
        (idle_arm, ALL, "frozen-field", N, "idle"),
        (gap, ONE, "timing", W, None),
        (backwards, ONE, "timing", E, None),
        (uneven, ALL, "timing", W, None),
        (other_rate, ONE, "timing", E, None),
        (wrongly_declared_rate, ALL, "timing", E, None),
        (late_actions, ALL, "step-lag", E, f"{ACTION_POSE} against {POSE}"),
        (stale_observations, ALL, "step-lag", W, f"{ACTION_POSE} against {POSE}"),
        (copied_actions, ALL, "step-lag", E, f"{ACTION_POSE} against {POSE}"),
        (late_actions, ONE, "step-lag", W, f"{ACTION_POSE} against {POSE}"),
        (inverted_gripper, ONE, "gripper-polarity", E, f"{ACTION_GRIPPER} against {GRIPPER}"),
        (percent_gripper, ALL, "gripper-unit", E, GRIPPER),
        (unlike_grippers, ALL, "gripper-unit", E, f"{ACTION_GRIPPER} against {GRIPPER}"),
        (bent_rotation, ONE, "rotation-orthonormal", E, POSE),
        (mirrored_rotation, ONE, "rotation-orthonormal", E, POSE),
        (interleaved_called_rows, ALL, "rotation-orthonormal", E, "turn"),
        (columns_called_rows, ALL, "rotation-layout", E, f"turn against {POSE}"),
        (turned_over, ONE, "rotation-jump", W, POSE),
        (teleported, ONE, "position-jump", W, POSE),
        (millimetres, ONE, "position-jump", E, POSE),
        (degrees, ONE, "joint-limits", E, JOINTS),
        (beyond_limits, ONE, "joint-limits", W, JOINTS),
        (wrapped, ALL, "joint-limits", W, JOINTS),
        (rare_spike, ALL, "normalization-range", E, "button"),
        (jitter, ALL, "normalization-range", N, "jitter"),
        (frozen_camera, ONE, "repeated-frames", E, HIGH),
        (half_rate_camera, TWO, "repeated-frames", W, LOW),
        (blind_camera, ALL, "repeated-frames", N, HIGH),
        (black, ONE, "exposure", E, LOW),
        (overexposed, ONE, "exposure", E, LOW),
        (one_colour, ONE, "exposure", E, LOW),
        (swapped_cameras, TWO, "swapped-cameras", E, f"{HIGH}, {LOW}"),
        (pause, ONE, "idle-steps", W, None),
        (cut_short, ONE, "too-short", W, None),
        (failed, ALL, "success", E, None),
        (failed, TWO, "success", W, None),
        (outcome_unknown, ALL, "success", N, None),
        (outcome_unknown, ONE, "success", W, None),
        (no_instruction, ALL, "language", W, None),
        (no_instruction, ONE, "language", E, None),
        (placeholder, ONE, "language", E, None),
        (other_task, TWO, "language", W, None),
        (extra_field, ONE, "schema", E, None),
    ],
)
def test_planted_fault_is_found(
    make_dataset: MakeDataset,
    plant: Plant,
    into: tuple[int, ...],
    check: str,
    severity: Severity,
    subject: str | None,
) -> None:
    findings = examine(make_dataset(plant, into=into)).findings
    found = [one for one in findings if one.check == check and one.severity is severity]
    assert [one.subject for one in found] == [subject], findings
    if into != ALL and found[0].episodes:
        assert found[0].episodes == tuple(f"episode_{number:06d}" for number in into)
    assert found[0].measured
    assert found[0].cost
    assert found[0].remedy
    # What else is said follows from the same fault: none of it is worse, and at most two things.
    others = [one for one in findings if one not in found]
    assert len(others) <= 2, others


def test_clean_data_has_no_findings(make_dataset: MakeDataset) -> None:
    examination = examine(make_dataset())
    assert examination.findings == ()
    # Six pairs of neighbours for each of two cameras and five episodes; pairs may share a frame.
    assert 80 <= examination.num_frames_seen <= 120
    assert examination.num_frames == 600


def test_every_check_has_a_planted_fault(make_dataset: MakeDataset) -> None:
    """The table above names every check but the two that need another data set."""
    marks = test_planted_fault_is_found.pytestmark  # type: ignore[attr-defined]
    named = {case[2] for case in marks[0].args[1]} | {"duplicate-episodes"}
    assert named == {check.name for check in CHECKS}


def test_lag_is_measured_in_steps_and_milliseconds(make_dataset: MakeDataset) -> None:
    (finding,) = examine(make_dataset(late_actions)).findings
    # The hand follows its command by one step; the actions were stamped three steps late.
    assert finding.numbers["lag_steps"] == pytest.approx(-2, abs=0.1)
    assert finding.numbers["lag_ms"] == pytest.approx(-200, abs=10)
    assert "shift the actions 3 steps earlier" in finding.remedy


def test_where_is_exact(make_dataset: MakeDataset) -> None:
    (finding,) = examine(make_dataset(nan_once, into=(2,))).findings
    assert (finding.episodes, finding.subject, finding.steps) == (("episode_000002",), POSE, (7, 8))


def test_duplicate_episodes_are_found_by_content(make_dataset: MakeDataset) -> None:
    episodes: list[Episode] = [*make_dataset(), make_dataset(numbers=range(1)).episode(0)]
    (finding,) = examine(MemoryDataset(episodes)).findings
    assert (finding.check, finding.severity) == ("duplicate-episodes", Severity.ERROR)
    assert finding.episodes == ("episode_000000", "episode_000000")


def test_shared_episodes_are_found_by_content(make_dataset: MakeDataset) -> None:
    def renamed(made: Parts) -> None:
        made.episode_id, made.facts["seed"] = f"validation_{made.episode_id}", None

    train = examine(make_dataset()).fingerprints
    held = examine(make_dataset(renamed, numbers=range(3, 8))).fingerprints
    (finding,) = shared_findings(train, held)
    assert (finding.check, finding.severity) == ("shared-episodes", Severity.ERROR)
    assert finding.episodes == ("validation_episode_000003", "validation_episode_000004")


def test_a_field_that_episodes_share_hides_no_shared_episode(make_dataset: MakeDataset) -> None:
    def close_alike(parts: Parts) -> None:
        parts.arrays[ACTION_GRIPPER] = np.repeat([0.08, 0.02], 30)

    train = examine(make_dataset(close_alike, numbers=range(5)), frame_pairs=0)
    held = examine(make_dataset(close_alike, numbers=range(3, 8)), frame_pairs=0)
    found = {one.check: one for one in shared_findings(train.fingerprints, held.fingerprints)}
    assert found["shared-episodes"].episodes == ("episode_000003", "episode_000004")


def test_a_gripper_that_was_never_recorded_is_a_finding(make_dataset: MakeDataset) -> None:
    def forget(parts: Parts) -> None:
        parts.arrays[ACTION_GRIPPER] = np.full(60, np.nan)

    (finding,) = examine(make_dataset(forget)).findings
    assert (finding.check, finding.subject) == ("not-finite", ACTION_GRIPPER)


@pytest.mark.parametrize("last_s", [np.nan, np.inf])
def test_times_that_are_no_numbers_are_json_too(make_dataset: MakeDataset, last_s: float) -> None:
    def plant(parts: Parts) -> None:
        parts.times_s[-1] = last_s

    report = examine(make_dataset(plant)).to_json()
    (finding,) = json.loads(json.dumps(report, allow_nan=False))["findings"]
    assert (finding["check"], finding["steps"]) == ("timing", [58, 60])
    assert finding["numbers"] == {"worst_step_s": None}


def test_frames_smaller_than_a_thumbnail_are_examined(make_dataset: MakeDataset) -> None:
    def shrink(parts: Parts) -> None:
        parts.images = {name: frames[:, :8] for name, frames in parts.images.items()}

    checks = {finding.check for finding in examine(make_dataset(shrink, into=(0, 2))).findings}
    assert checks == {"schema"}


def test_same_scenes_are_told_and_others_are_not(make_dataset: MakeDataset) -> None:
    def same_seed(made: Parts) -> None:
        made.facts["seed"] = 0

    train = examine(make_dataset()).fingerprints
    others = examine(make_dataset(numbers=range(5, 10))).fingerprints
    assert shared_findings(train, others) == []
    held = examine(make_dataset(same_seed, into=(4,), numbers=range(5, 10))).fingerprints
    (finding,) = shared_findings(train, held)
    assert (finding.check, finding.episodes) == ("shared-seeds", ("episode_000009",))


class _VideoEpisode(Episode):
    """Frames as a codec gives them back: a still one is not the same twice."""

    def __init__(self, inner: Episode) -> None:
        self._inner = inner

    @property
    def description(self) -> EpisodeDescription:
        inner = self._inner.description
        cameras = {name: replace(one, encoding="video") for name, one in inner.cameras.items()}
        return replace(inner, cameras=cameras)

    def times_s(self) -> np.ndarray:
        return self._inner.times_s()

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self._inner.read(name, start, stop)

    def frames(self, camera: str, steps: Sequence[int]) -> np.ndarray:
        frames = self._inner.frames(camera, steps).astype(int)
        noise = [np.random.default_rng(step).integers(-8, 9, frames.shape[1:]) for step in steps]
        return (frames + np.stack(noise)).clip(0, 255).astype(np.uint8)

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self._inner.intrinsics(camera, start, stop)

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self._inner.extrinsics(camera, start, stop)


@pytest.mark.parametrize(("plant", "found"), [(None, []), (frozen_camera, ["repeated-frames"])])
def test_a_frozen_camera_is_found_in_a_video_too(
    make_dataset: MakeDataset, plant: Plant | None, found: list[str]
) -> None:
    episodes = [_VideoEpisode(episode) for episode in make_dataset(plant)]
    findings = examine(MemoryDataset(episodes)).findings
    assert [one.check for one in findings if one.severity is Severity.ERROR] == found


class _TornDataset(Dataset):
    """Its second episode cannot be read."""

    format_name, where = "torn", "torn"

    def __init__(self, whole: Dataset) -> None:
        self._whole = whole

    def __len__(self) -> int:
        return len(self._whole)

    def episode(self, index: int) -> Episode:
        if index == 1:
            raise DataError("truncated", where="torn/1", episode="episode_000001")
        return self._whole.episode(index)


def test_unreadable_episode_is_a_finding_and_the_others_are_examined(
    make_dataset: MakeDataset,
) -> None:
    examination = examine(_TornDataset(make_dataset(nan_once, into=(2,))))
    assert [finding.check for finding in examination.findings] == ["unreadable", "not-finite"]
    assert examination.findings[0].episodes == ("episode_000001",)
    assert "torn/1" in examination.findings[0].measured


def test_nothing_to_examine_is_an_error() -> None:
    with pytest.raises(DataError, match="no episodes"):
        examine(MemoryDataset([]))


def test_without_frames_only_numbers_are_examined(make_dataset: MakeDataset) -> None:
    examination = examine(make_dataset(black), frame_pairs=0)
    assert examination.findings == ()
    assert examination.num_frames_seen == 0


def test_findings_are_json(make_dataset: MakeDataset) -> None:
    told = json.loads(json.dumps(examine(make_dataset(late_actions)).to_json()))
    (finding,) = told["findings"]
    assert finding["severity"] == "error"
    assert set(finding) == {
        *("check", "severity", "episodes", "subject", "steps"),
        *("measured", "numbers", "cost", "remedy"),
    }


def test_worst_come_first(make_dataset: MakeDataset) -> None:
    def several(made: Parts) -> None:
        idle_arm(made)
        outcome_unknown(made)
        nan_once(made)

    findings: tuple[Finding, ...] = examine(make_dataset(several)).findings
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=list(Severity).index)
    assert severities[0] is Severity.ERROR
