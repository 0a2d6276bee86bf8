"""A process of its own that evaluates with the fake station: what tests interrupt and kill."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.docker_options import DockerOptions
from sim_client.evaluation.runner import run

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    config = EvaluationConfig(
        tasks=tuple(options["tasks"]),
        episodes=EpisodeRange.parse(options["episodes"]),
        address=options["address"],
        workers=options["workers"],
        output=Path(options["output"]),
        # An answer may be held until another process has begun.
        step_timeout_s=150.0,
        while_input_open=options.get("while_input_open", False),
        executor="docker" if "image" in options else "local",
        docker=DockerOptions(image=options["image"]) if "image" in options else DockerOptions(),
    )
    sys.exit(run(config, station_factory="fake_station:build"))
