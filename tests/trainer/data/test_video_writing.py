"""Videos are written, and the process that wrote them is as it was."""

import os
from pathlib import Path

import numpy as np
import pytest

from trainer.data.video_writing import VideoCodec, VideoSettings, encode_video


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_an_encoder_leaves_the_process_its_scheduling(tmp_path: Path, codec: VideoCodec) -> None:
    """Root's SVT-AV1 made it real time: programs that it started later kept their core for ever."""
    before = os.sched_getscheduler(0)
    frames = [np.zeros((64, 64, 3), np.uint8)] * 3
    settings = VideoSettings(codec=codec)
    try:
        encode_video(tmp_path / "video.mp4", frames, rate_hz=10, size=(64, 64), settings=settings)
        assert os.sched_getscheduler(0) == before
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))
