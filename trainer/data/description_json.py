"""Descriptions of episodes as JSON, for manifests and for machines that read what a verb prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from trainer.data.episode import Camera, EpisodeDescription, Field


def fields_to_json(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {name: asdict(field) for name, field in fields.items()}


def cameras_to_json(cameras: Mapping[str, Camera]) -> dict[str, Any]:
    return {name: asdict(camera) for name, camera in cameras.items()}


def facts_to_json(description: EpisodeDescription) -> dict[str, Any]:
    """All but the fields and cameras, which a data set's episodes have in common."""
    return {
        "episode_id": description.episode_id,
        "num_steps": description.num_steps,
        "rate_hz": description.rate_hz,
        "instructions": {kind: list(told) for kind, told in description.instructions.items()},
        "task": description.task,
        "success": description.success,
        "seed": description.seed,
        "provenance": dict(description.provenance),
    }


def description_to_json(description: EpisodeDescription) -> dict[str, Any]:
    return {
        **facts_to_json(description),
        "fields": fields_to_json(description.fields),
        "cameras": cameras_to_json(description.cameras),
    }


def fields_from_json(fields: Mapping[str, Any]) -> dict[str, Field]:
    """Raises TypeError or DataError for anything else."""
    return {name: Field(**told) for name, told in fields.items()}


def cameras_from_json(cameras: Mapping[str, Any]) -> dict[str, Camera]:
    """Raises TypeError for anything else."""
    return {name: Camera(**told) for name, told in cameras.items()}


def description_from_json(
    facts: Mapping[str, Any], fields: Mapping[str, Field], cameras: Mapping[str, Camera]
) -> EpisodeDescription:
    """Of `facts_to_json`. Raises KeyError, TypeError or DataError for anything else."""
    return EpisodeDescription(
        episode_id=facts["episode_id"],
        num_steps=facts["num_steps"],
        rate_hz=facts["rate_hz"],
        fields=fields,
        cameras=cameras,
        instructions={kind: tuple(told) for kind, told in facts["instructions"].items()},
        task=facts["task"],
        success=facts["success"],
        seed=facts["seed"],
        provenance=facts["provenance"],
    )
