"""Pictures of open-loop plans: errors by horizon step, and plans along an episode.

Axes: N window, T timestep, A arm, G gripper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.windows import BoolArray, IntArray
from trainer.open_loop import OpenLoopPlans
from trainer.plotting.gallery import Gallery, Section, Table, sheet
from trainer.plotting.panels import Curve, Panel
from trainer.plotting.png import pixels

# Less than this over all that is shown, and a part of the robot stays where it is.
_STAYS_M, _STAYS_RAD, _STAYS_WIDTH_M = 5e-3, np.deg2rad(2.0), 2e-3
# Least heights of axes: what is a hair's breadth should look like one.
_LEAST_POSITION_M, _LEAST_ROTATION_DEG, _LEAST_WIDTH_MM = 0.04, 2.0, 10.0
_PERCENTILES = (10, 90)
_COLUMNS = 5


@dataclass(frozen=True)
class _Measure:
    """One number of a plan: of an arm or a gripper, by window and timestep.

    planned: (N, T) of plans; taught: of the teacher, None where it is an error against him.
    least: a height of its axis.
    """

    title: str
    unit: str
    planned: Callable[[OpenLoopPlans], FloatArray]
    taught: Callable[[OpenLoopPlans], FloatArray] | None
    least: float


def prediction_gallery(
    plans: Mapping[str, OpenLoopPlans],
    episodes: Mapping[int, str],
    *,
    headline: str,
    tables: Sequence[Table] = (),
) -> Gallery:
    """plans: of one robot and on the same episodes, by the policy's name. episodes: the headings of
    those to draw, by number."""
    return Gallery(
        eyebrow="Open-loop plans",
        headline=headline,
        lead="Each plan begins at what was recorded. What would be executed before the next plan "
        "is strong, the rest faint; errors are against the teacher's actions.",
        names=list(plans),
        unnamed="teacher",
        sections=[
            _horizon_section(plans),
            *(_episode_section(plans, number, name) for number, name in episodes.items()),
        ],
        tables=[_error_table(plans), *tables],
        columns=_COLUMNS,
    )


def picture_of_plans(name: str, plans: OpenLoopPlans) -> npt.NDArray[np.uint8]:
    """(H, W, 3): errors by horizon step, and the plans along the first episode."""
    first = int(plans.episode[0])
    gallery = prediction_gallery({name: plans}, {first: f"Episode {first}"}, headline=name)
    return pixels(sheet(gallery), "light")


def _horizon_section(plans: Mapping[str, OpenLoopPlans]) -> Section:
    first = next(iter(plans.values()))
    band = f"; shaded: {_PERCENTILES[0]} to {_PERCENTILES[1]} % of plans" if len(plans) == 1 else ""
    replanned_s = {each.open_loop_steps / each.rate_hz for each in plans.values()}
    return Section(
        heading="Error by horizon step",
        lead=f"Means over all plans{band}; dashed: when the next plan would begin.",
        panels=[
            Panel(
                title=measure.title,
                unit=measure.unit,
                curves=[
                    _by_horizon(one, measure.planned(one), series, with_band=len(plans) == 1)
                    for series, one in enumerate(plans.values())
                ],
                x_unit=" s",
                marked_x=min(replanned_s) if len(replanned_s) == 1 else None,
                shares_y_with=np.array([0.0]),
            )
            for measure in _error_measures(first)
        ],
    )


def _by_horizon(plans: OpenLoopPlans, error: FloatArray, series: int, *, with_band: bool) -> Curve:
    steps = [t for t in range(error.shape[1]) if plans.valid[:, t].any()]
    columns = [error[plans.valid[:, t], t] for t in steps]
    band = None
    if with_band:
        low, high = np.array([np.percentile(column, _PERCENTILES) for column in columns]).T
        band = (low, high)
    return Curve(
        x=np.array(steps) / plans.rate_hz,
        y=np.array([column.mean() for column in columns]),
        series=series,
        band=band,
    )


def _episode_section(plans: Mapping[str, OpenLoopPlans], episode: int, name: str) -> Section:
    first = next(iter(plans.values()))
    panels = []
    for measure in _episode_measures(first):
        curves = []
        if measure.taught is not None:
            curves.append(_taught_curve(first, measure.taught(first), episode))
        for series, one in enumerate(plans.values()):
            curves += _planned_curves(one, measure.planned(one), episode, series)
        panels.append(
            Panel(
                title=measure.title,
                unit=measure.unit,
                curves=curves,
                x_unit=" s",
                shares_y_with=_least_span(curves, measure.least),
            )
        )
    return Section(heading=name, panels=panels)


def _least_span(curves: Sequence[Curve], least: float) -> FloatArray:
    """Numbers that make an axis at least so high, around the curves' middle."""
    shown = np.concatenate([curve.y for curve in curves])
    low, high = np.nanmin(shown), np.nanmax(shown)
    if high - low >= least:
        return np.zeros(0)
    # Errors and widths are never negative, and have their place on the ground.
    floor = max(0.0, (low + high - least) / 2) if low >= 0 else (low + high - least) / 2
    return np.array([floor, floor + least])


def _taught_curve(plans: OpenLoopPlans, taught: FloatArray, episode: int) -> Curve:
    """What the teacher did, as far as the windows show it."""
    value_of: dict[int, float] = {}
    for window in np.flatnonzero(plans.episode == episode):
        for t in np.flatnonzero(plans.valid[window]):
            value_of[int(plans.anchor[window] + t)] = float(taught[window, t])
    steps = np.arange(min(value_of), max(value_of) + 1)
    values = np.array([value_of.get(int(step), np.nan) for step in steps])
    return Curve(x=steps / plans.rate_hz, y=values, series=None, width=2.4)


def _planned_curves(
    plans: OpenLoopPlans, planned: FloatArray, episode: int, series: int
) -> Iterator[Curve]:
    """Of each plan what is executed, and what comes after it."""
    for window in np.flatnonzero(plans.episode == episode):
        valid = int(plans.valid[window].sum())
        x = (plans.anchor[window] + np.arange(valid)) / plans.rate_hz
        y = planned[window, :valid]
        executed = min(plans.open_loop_steps, valid)
        yield Curve(x=x[:executed], y=y[:executed], series=series, width=1.6)
        if executed < valid:
            later = slice(executed - 1, None)
            yield Curve(x=x[later], y=y[later], series=series, width=1.0, opacity=0.38)


def _episode_measures(plans: OpenLoopPlans) -> Iterator[_Measure]:
    arms, grippers = _moving_arms(plans), _moving_grippers(plans)
    for arm in arms:
        for axis, letter in enumerate("xyz"):
            yield _Measure(
                _titled(letter, plans.arms[arm], len(arms)),
                "m",
                lambda one, arm=arm, axis=axis: one.poses[..., arm, axis, 3],
                lambda one, arm=arm, axis=axis: one.taught_poses[..., arm, axis, 3],
                _LEAST_POSITION_M,
            )
        yield _rotation_error(plans, arm, len(arms))
    for gripper in grippers:
        yield _Measure(
            _titled("gripper", plans.grippers[gripper], len(grippers)),
            "mm",
            lambda one, gripper=gripper: 1e3 * one.widths_m[..., gripper],
            lambda one, gripper=gripper: 1e3 * one.taught_widths_m[..., gripper],
            _LEAST_WIDTH_MM,
        )


def _error_measures(plans: OpenLoopPlans) -> Iterator[_Measure]:
    arms, grippers = _moving_arms(plans), _moving_grippers(plans)
    for arm in arms:
        yield _Measure(
            _titled("position error", plans.arms[arm], len(arms)),
            "mm",
            lambda one, arm=arm: 1e3 * one.position_error_m[..., arm],
            None,
            0.0,
        )
        yield _rotation_error(plans, arm, len(arms))
    for gripper in grippers:
        yield _Measure(
            _titled("gripper error", plans.grippers[gripper], len(grippers)),
            "mm",
            lambda one, gripper=gripper: 1e3 * one.width_error_m[..., gripper],
            None,
            0.0,
        )


def _rotation_error(plans: OpenLoopPlans, arm: int, num_arms: int) -> _Measure:
    return _Measure(
        _titled("rotation error", plans.arms[arm], num_arms),
        "deg",
        lambda one: np.rad2deg(one.rotation_error_rad[..., arm]),
        None,
        _LEAST_ROTATION_DEG,
    )


def _titled(what: str, part: str, count: int) -> str:
    return f"{part} {what}" if count > 1 else what.capitalize() if len(what) > 1 else what


def _moving_arms(plans: OpenLoopPlans) -> list[int]:
    """Those that the teacher moved within an episode; all where he moved none."""
    moving = [
        arm
        for arm in range(len(plans.arms))
        if any(
            np.ptp(poses[:, arm, :3, 3], axis=0).max() > _STAYS_M or _turns(poses[:, arm, :3, :3])
            for poses in _by_episode(plans, plans.taught_poses)
        )
    ]
    return moving or list(range(len(plans.arms)))


def _turns(rotations: FloatArray) -> bool:
    trace = np.einsum("nij,ij->n", rotations, rotations[0])
    return bool((trace < 1 + 2 * np.cos(_STAYS_RAD)).any())


def _moving_grippers(plans: OpenLoopPlans) -> list[int]:
    moving = [
        gripper
        for gripper in range(len(plans.grippers))
        if any(
            np.ptp(widths_m[:, gripper]) > _STAYS_WIDTH_M
            for widths_m in _by_episode(plans, plans.taught_widths_m)
        )
    ]
    return moving or list(range(len(plans.grippers)))


def _by_episode(plans: OpenLoopPlans, values_NT: FloatArray) -> Iterator[FloatArray]:
    """The valid ones of each episode, one after the other."""
    for number in np.unique(plans.episode):
        here = plans.episode == number
        yield values_NT[here][plans.valid[here]]


def _error_table(plans: Mapping[str, OpenLoopPlans]) -> Table:
    rows = []
    for name, one in plans.items():
        error = one.executed_error()
        rows.append(
            [
                name,
                f"{len(one.anchor)} on {_num_episodes(one.episode)} episodes",
                f"{one.open_loop_steps} of {one.valid.shape[1]}",
                f"{error.position_mm:.1f}",
                f"{error.rotation_deg:.2f}",
                f"{error.gripper_mm:.1f}" if one.grippers else "–",
                f"{1e3 * _mean_at_end(one.position_error_m, one.valid):.1f}",
            ]
        )
    return Table(
        heading="Mean errors",
        lead="Over all plans, arms and grippers, those that stay where they are included.",
        head=[
            "Policy",
            "Plans",
            "Actions executed",
            "Position, mm",
            "Rotation, deg",
            "Gripper, mm",
            "Position at the horizon's end, mm",
        ],
        rows=rows,
        series=range(len(plans)),
    )


def _num_episodes(episode: IntArray) -> int:
    return len(np.unique(episode))


def _mean_at_end(error_NTX: FloatArray, valid_NT: BoolArray) -> float:
    last = int(np.flatnonzero(valid_NT.any(axis=0))[-1])
    return float(error_NTX[valid_NT[:, last], last].mean())
