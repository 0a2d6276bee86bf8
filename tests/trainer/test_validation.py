"""Held-out windows are planned a step's worth at once, and the measure is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trainer.models.policy_network import PolicyNetwork
from trainer.policy_configuration import TrainConfig
from trainer.run_directory import RunDirectory
from trainer.stages.catalog import open_stage


def test_no_more_windows_than_a_step_has_are_planned_at_once(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward = PolicyNetwork.forward

    def forward_and_note(self: PolicyNetwork, images, proprioception_BP, *rest, **options):
        passes.append(len(proprioception_BP))
        return forward(self, images, proprioception_BP, *rest, **options)

    monkeypatch.setattr(PolicyNetwork, "forward", forward_and_note)

    def measured(batch_size: int) -> dict[str, float]:
        passes.clear()
        config = replace(tiny_config, batch_size=batch_size)
        with open_stage(config, RunDirectory(root=tmp_path))() as stage:
            measurement = stage.measure()
        assert measurement is not None
        return dict(measurement.scalars)

    at_once = measured(64)
    assert passes == [28]
    in_parts = measured(5)
    assert passes == [4, 5, 5, 4, 5, 5]
    assert in_parts == pytest.approx(at_once, rel=1e-5)
