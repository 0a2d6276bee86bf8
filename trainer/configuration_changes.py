"""What of a run's configuration was changed as it went on, and from which optimizer step on.

config.json says how a run is trained now; changes.json beside it what held before, where that was
something else:

    [{"after_step": 400, "created": "...", "fields": {"optimizer.learning_rate": [0.01, 0.001]}}]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.co_training_configuration import AlsoConfig
from trainer.configuration_json import (
    config_differences,
    config_from_json,
    config_to_json,
    leaves,
)
from trainer.policy_configuration import PolicyConfig
from trainer.run_configuration import RunConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig

# Why, of what is often tried.
_REASONS = {
    "batch_size": "the place in the data is counted in batches",
    "ema.max_decay": "the averages are of all steps",
    "ema.schedule": "the averages are of all steps",
    "optimizer.kind": "its averages of gradients are kept",
    "optimizer.multipliers": "what is trained is kept apart from what is not",
    "seed": "the order of the data is drawn by it",
}


@dataclass(frozen=True, kw_only=True)
class ConfigurationChange:
    """after_step: optimizer steps taken before it held. fields: [before, after] by name."""

    after_step: int
    created: str
    fields: Mapping[str, Sequence[Any]]


def with_own_places(config: RunConfig, others: RunConfig) -> RunConfig:
    """The first, but for what may differ without a word, such as where the data lie."""
    if type(config) is not type(others):
        return config
    own = {name: getattr(others, name) for name in config.may_differ}
    # What further data hold is compared as that of the first are: here, how much each counts.
    if (
        isinstance(config, PolicyConfig)
        and isinstance(others, PolicyConfig)
        and [*config.weight_of.values()] == [*others.weight_of.values()]
    ):
        own["more_data"] = others.more_data
    if (
        isinstance(config, VisionLanguageActionTrainConfig)
        and isinstance(others, VisionLanguageActionTrainConfig)
        and _shares(config.also) == _shares(others.also)
    ):
        own["also"] = replace(config.also, data=others.also.data)
    return replace(config, **own)


def _shares(also: AlsoConfig) -> list[tuple[str, float, int]]:
    """Tokens and losses go by the name."""
    return [(source.name, source.weight, source.batch_size) for source in also.sources]


def changed_fields(before: RunConfig, now: RunConfig) -> dict[str, list[Any]]:
    """[before, now] of what is another and counts, by names with dots."""
    one, other = _fields(with_own_places(before, now)), _fields(now)
    return _differing(one, other)


def refusals(before: RunConfig, now: RunConfig) -> list[str]:
    """`field: before, now after (reason)` of what cannot change as a run goes on."""
    if before.kind != now.kind:
        return config_differences(before, now)
    return [
        f"{name}: {one!r}, now {other!r}" + (f" ({_REASONS[name]})" if name in _REASONS else "")
        for name, (one, other) in changed_fields(before, now).items()
        if name not in now.may_change
    ]


def with_changes_of(
    changes: Sequence[ConfigurationChange],
    before: RunConfig,
    now: RunConfig,
    *,
    step: int,
    created: str,
) -> list[ConfigurationChange]:
    """All that hold in a run that goes on after optimizer step `step`.

    changes: as they were recorded, up to `before`. Of those of that step or later no step is left:
    it goes on as if they had never been.
    """
    held = [change for change in changes if change.after_step < step]
    fields = _fields(with_own_places(before, now))
    for void in reversed(changes[len(held) :]):
        fields |= {name: values[0] for name, values in void.fields.items()}
    differing = _differing(fields, _fields(now))
    if not (differing and step):
        return held
    return [*held, ConfigurationChange(after_step=step, created=created, fields=differing)]


def held_before(config: RunConfig, change: ConfigurationChange) -> RunConfig:
    """The configuration that `config` was made of by its newest change."""
    fields = json.loads(config_to_json(config))
    for name, (before, _) in change.fields.items():
        *path, last = name.split(".")
        within = fields
        for part in path:
            within = within[part]
        within[last] = before
    return config_from_json(json.dumps(fields))


def changes_to_json(changes: Sequence[ConfigurationChange]) -> str:
    return json.dumps(plain_changes(changes), indent=2) + "\n"


def plain_changes(changes: Sequence[ConfigurationChange]) -> list[dict[str, Any]]:
    """As JSON has them."""
    return [
        {"after_step": each.after_step, "created": each.created, "fields": dict(each.fields)}
        for each in changes
    ]


def changes_from_json(text: str) -> list[ConfigurationChange]:
    """Raises ValueError for what is none."""
    try:
        return [
            ConfigurationChange(
                after_step=int(each["after_step"]),
                created=str(each["created"]),
                fields={str(name): [one, other] for name, (one, other) in each["fields"].items()},
            )
            for each in json.loads(text)
        ]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not changes of a configuration: {error!r}") from error


def _fields(config: RunConfig) -> dict[str, Any]:
    """As JSON has them: a tuple is a list."""
    return leaves(json.loads(config_to_json(config)))


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys((*before, *now))
    return {
        name: [before.get(name), now.get(name)]
        for name in names
        if before.get(name) != now.get(name)
    }
