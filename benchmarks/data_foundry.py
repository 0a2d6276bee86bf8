"""Samples per second of VLA Foundry's own robotics pipeline: the other side of benchmarks/data.py.

    python benchmarks/data_foundry.py CHECKOUT SHARDS WORKERS BATCH_SIZE STAGES

Run by the interpreter of an environment that has what the checkout wants (webdataset, torch,
torchvision, ...). STAGES: `all` runs its pipeline to the end with its pass-through processor,
which makes float images and no text tokens; `decoded` stops at batches of decoded uint8 images.
Prints JSON: one pass over all shards, imports not counted.
"""

from __future__ import annotations

import json
import resource
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

FIELDS = [
    f"robot__action__{kind}"
    for side in ("left", "right")
    for kind in (
        f"poses__{side}::panda__xyz_relative",
        f"poses__{side}::panda__rot_6d_relative",
        f"grippers__{side}::panda_hand",
    )
]
PROPRIOCEPTION = [name.replace("action", "actual").replace("_relative", "") for name in FIELDS]


def cpu_s() -> float:
    """Of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    checkout, shards, workers, batch_size, stages = sys.argv[1:]
    sys.path.insert(0, checkout)
    import torch
    import webdataset as wds  # type: ignore[import]
    from vla_foundry.data.pipelines.robotics import RoboticsPipeline  # type: ignore[import]
    from vla_foundry.params.data_params import RoboticsDataParams  # type: ignore[import]
    from vla_foundry.params.robotics.normalization_params import (  # type: ignore[import]
        NormalizationParams,
    )

    torch.set_num_threads(1)
    folder = Path(shards)
    manifest = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    params = RoboticsDataParams(
        dataset_manifest=[str(folder / "manifest.jsonl")],
        dataset_statistics=[str(folder / "stats.json")],
        dataset_weighting=[1.0],
        dataset_modality=["robotics"],
        camera_names=manifest_cameras(folder),
        image_indices=[-1, 0],
        processor="none",
        image_size=None,
        action_fields=FIELDS,
        proprioception_fields=PROPRIOCEPTION,
        lowdim_past_timesteps=1,
        lowdim_future_timesteps=14,
        normalization=NormalizationParams(lowdim_past_timesteps=1, lowdim_future_timesteps=14),
    )
    names = ",".join(entry["shard"] for entry in manifest)
    stage_list = RoboticsPipeline("robotics", params, int(batch_size)).create_pipeline(
        f"{folder}/{{{names}}}.tar", 0
    )
    if stages == "decoded":
        # Up to and with the stage that makes batches.
        kinds = [getattr(stage, "f", None) for stage in stage_list]
        end = 1 + max(i for i, f in enumerate(kinds) if getattr(f, "__name__", "") == "_batched")
        stage_list = stage_list[:end]
    started_s, started_cpu_s = time.perf_counter(), cpu_s()
    loader = wds.WebLoader(
        wds.DataPipeline(*stage_list),
        batch_size=None,
        shuffle=False,
        num_workers=int(workers),
        prefetch_factor=2,
    )
    num_samples = 0
    for batch in loader:
        num_samples += count(batch)
    wall_s = time.perf_counter() - started_s
    del loader
    print(
        json.dumps(
            {
                "num_samples": num_samples,
                "wall_s": wall_s,
                "cpu_s": cpu_s() - started_cpu_s,
                "torch": torch.__version__,
                "webdataset": wds.__version__,
            }
        )
    )


def manifest_cameras(folder: Path) -> list[str]:
    """Of the first sample of the first shard."""
    with tarfile.open(next(iter(sorted(folder.glob("*.tar"))))) as shard:
        for member in shard:
            if member.name.endswith("metadata.json"):
                file = shard.extractfile(member)
                assert file is not None
                return json.loads(file.read())["camera_names"]
    raise SystemExit(f"{folder}: no sample in its first shard")


def count(batch: Any) -> int:
    return len(batch["language_instruction"])


if __name__ == "__main__":
    main()
