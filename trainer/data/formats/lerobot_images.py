"""How the images in a LeRobot data set's rows are encoded, which its information does not say."""

from __future__ import annotations

from dataclasses import replace

from trainer.data.errors import DataError
from trainer.data.formats.lerobot_info import LeRobotInfo
from trainer.data.formats.parquet_rows import open_parquet
from trainer.data.locations import Location


def with_image_encodings(info: LeRobotInfo, first_data: Location, opening: str) -> LeRobotInfo:
    """The information, with each camera's encoding by the first image of the first data file.

    PNG is what LeRobot writes, and what is assumed of a file that cannot be read: reading its
    episode says what is wrong with it.
    """
    cameras = dict(info.cameras)
    for name, feature in info.cameras.items():
        if feature.is_video or feature.camera is None:
            continue
        try:
            value = open_parquet(first_data, opening).read(feature.column, 0, 1)[0].as_py()
        except (DataError, IndexError):
            continue
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes) and data.startswith(b"\xff\xd8"):
            cameras[name] = replace(feature, camera=replace(feature.camera, encoding="jpeg"))
    return replace(info, cameras=cameras)
