"""What a study sets out to decide, fixed before its first episode."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any, Literal, Self, get_args

from step_analysis.multiplicity import StudyCorrection
from step_analysis.rollouts import EvaluationDesign, check_name
from step_analysis.strict_json import FormatError, check_keys, check_version, parse_object, shown

STUDY_VERSION = 1

StudyTest = Literal["paired", "step", "lai", "savi", "betting"]
Measure = Literal["success", "progress"]
Question = Literal["ranking", "best"]
Scope = Literal["tasks", "overall", "both"]

_CHOICES = {
    "test": get_args(StudyTest),
    "measure": get_args(Measure),
    "correction": get_args(StudyCorrection),
    "question": get_args(Question),
    "scope": get_args(Scope),
}
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class StudyPolicy:
    """One policy: its name in the study, its checkpoint's digest, how its server executes it."""

    name: str
    digest: str
    serving: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class StudyDesign:
    """Everything that the verdict depends on besides the outcomes.

    Policies and tasks are kept in the order of their names; with the correction "arrival", policies
    in the order in which they came, and the design may grow by more of them.

    Raises:
        FormatError: a field has the wrong type or a value out of range, two policies are one, or
            choices that do not go together.
    """

    policies: tuple[StudyPolicy, ...]
    tasks: tuple[str, ...]
    first_episode: int = 0
    max_episodes: int
    """The budget of each policy and task."""
    first_seed: int
    """Of the first episode; each later one's is one more. All policies meet the same seeds."""
    alpha: float
    """Bound on the chance of any wrong verdict of the whole study, in either direction."""
    test: StudyTest = "paired"
    measure: Measure = "success"
    correction: StudyCorrection = "bonferroni"
    question: Question = "ranking"
    """"ranking": every pair is to be decided. "best": who is beaten leaves the panel."""
    scope: Scope = "both"
    """Verdicts on each task, on all tasks together, or both; of one task there is one verdict."""
    station: Mapping[str, Any] = field(default_factory=dict, hash=False)
    software: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.correction != "arrival":
            policies = tuple(sorted(self.policies, key=lambda policy: policy.name))
            object.__setattr__(self, "policies", policies)
        self._check_policies()
        # An evaluation of one of them has the same rules for these fields.
        first = self.policies[0]
        evaluation = EvaluationDesign(
            policy=first.name,
            policy_digest=first.digest,
            tasks=self.tasks,
            first_episode=self.first_episode,
            num_episodes=self.max_episodes,
            max_sample_size=self.max_episodes,
            station=self.station,
            software=self.software,
        )
        object.__setattr__(self, "tasks", tuple(sorted(evaluation.tasks)))
        object.__setattr__(self, "station", evaluation.station)
        object.__setattr__(self, "software", evaluation.software)
        if type(self.first_seed) is not int or not (
            0 <= self.first_seed <= _MAX_SEED - self.max_episodes
        ):
            raise FormatError(f"first_seed: a 32-bit seed expected, got {shown(self.first_seed)}")
        if type(self.alpha) is not float or not 0.0 < self.alpha < 0.5:
            raise FormatError(
                f"alpha: a number strictly between 0 and 0.5 expected, got {shown(self.alpha)}"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise FormatError(
                    f"{name}: one of {', '.join(choices)} expected, "
                    f"got {shown(getattr(self, name))}"
                )
        if self.measure == "progress" and self.test != "betting":
            raise FormatError(
                f"test: progress scores are tested by betting, {self.test} is for success alone"
            )
        if self.question == "best" and self.correction != "bonferroni":
            raise FormatError(
                f"correction: with question best it must be bonferroni, got {self.correction}: "
                "levels that depend on other panels would make the verdict depend on the order "
                "in which episodes are run"
            )

    def _check_policies(self) -> None:
        if len(self.policies) < 2:
            raise FormatError(f"policies: at least two expected, got {len(self.policies)}")
        for policy in self.policies:
            check_name(policy.name, "policy")
        for first, second in combinations(self.policies, 2):
            if first.name == second.name:
                raise FormatError(f"policies: {shown(first.name)} is there twice")
            if (first.digest, dict(first.serving)) == (second.digest, dict(second.serving)):
                raise FormatError(
                    f"policies: {shown(first.name)} and {shown(second.name)} are the same policy, "
                    f"{shown(first.digest)}: there is nothing to compare"
                )

    @property
    def panels(self) -> tuple[tuple[str, ...], ...]:
        """The tasks of each family of pairwise verdicts: one, or all together."""
        panels = tuple((task,) for task in self.tasks)
        if len(self.tasks) == 1 or self.scope == "tasks":
            return panels
        return (self.tasks,) if self.scope == "overall" else (*panels, self.tasks)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The names of each two policies."""
        return tuple(combinations((policy.name for policy in self.policies), 2))

    def level(self, arms: tuple[str, str]) -> float:
        """The alpha a side of a comparison of two policies, with the correction "arrival".

        The k-th policy to come is compared with the k - 1 before it, at alpha / (k (k - 1)) for all
        of these comparisons together. Over k = 2, 3, ... that adds up to alpha, however many come.
        """
        names = [policy.name for policy in self.policies]
        k = 1 + max(names.index(arm) for arm in arms)
        return self.alpha / 2.0 / (k * (k - 1)) / ((k - 1) * len(self.panels))

    def grows_from(self, earlier: "StudyDesign") -> bool:
        """Whether it is the earlier one with more policies, whose verdicts then all stand."""
        begun = self.policies[: len(earlier.policies)]
        return self.correction == "arrival" and not replace(self, policies=begun).differences(
            earlier
        )

    @property
    def num_comparisons(self) -> int:
        """How many verdicts share alpha."""
        return len(self.panels) * len(self.pairs)

    @property
    def num_rollouts(self) -> int:
        """The whole budget."""
        return len(self.policies) * len(self.tasks) * self.max_episodes

    def seed(self, scenario_index: int) -> int:
        return self.first_seed + scenario_index - self.first_episode

    def to_json(self) -> str:
        """Indented JSON, ending with a newline, for people to read too."""
        value: dict[str, Any] = {"version": STUDY_VERSION} | self._as_json()
        return json.dumps(value, allow_nan=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The design in one JSON object; every field must be there and no other.

        Raises:
            FormatError: with what is wrong in one line.
        """
        what = "study design"
        value = parse_object(text, what)
        check_version(value, STUDY_VERSION, what)
        del value["version"]
        check_keys(value, _FIELDS, what)
        for name in ("policies", "tasks"):
            if not isinstance(value[name], list):
                raise FormatError(f"{what}: {name}: a list expected, got {shown(value[name])}")
        try:
            value["policies"] = tuple(_policy_from_json(item) for item in value["policies"])
            return cls(**value)
        except FormatError as error:
            raise FormatError(f"{what}: {error}") from None

    def differences(self, other: "StudyDesign") -> list[str]:
        """One readable line for each thing that `other` has otherwise; empty if they agree."""
        here, there = self._as_json(), other._as_json()
        lines = []
        for name in _FIELDS:
            if name == "policies":
                lines += _policy_differences(self.policies, other.policies)
                orders = [[p.name for p in each.policies] for each in (self, other)]
                if not lines and orders[0] != orders[1]:
                    lines.append(
                        f"policies: order of arrival {', '.join(orders[0])} here, "
                        f"{', '.join(orders[1])} there"
                    )
            elif isinstance(here[name], Mapping):
                for key in sorted({*here[name], *there[name]}):
                    first, second = here[name].get(key), there[name].get(key)
                    if first != second:
                        lines.append(f"{name}.{key}: {shown(first)} here, {shown(second)} there")
            elif here[name] != there[name]:
                lines.append(f"{name}: {shown(here[name])} here, {shown(there[name])} there")
        return lines

    def _as_json(self) -> dict[str, Any]:
        value = {name: getattr(self, name) for name in _FIELDS}
        value["policies"] = [
            {"name": p.name, "digest": p.digest, "serving": dict(p.serving)} for p in self.policies
        ]
        value["tasks"] = list(self.tasks)
        return value


_FIELDS = tuple(f.name for f in fields(StudyDesign))


def _policy_from_json(value: Any) -> StudyPolicy:
    if not isinstance(value, Mapping):
        raise FormatError(f"policies: objects expected, got {shown(value)}")
    check_keys(value, ("name", "digest", "serving"), "policies")
    serving = value["serving"]
    if not isinstance(value["digest"], str):
        raise FormatError(f"policies: digest: text expected, got {shown(value['digest'])}")
    if not isinstance(serving, Mapping) or not all(isinstance(v, str) for v in serving.values()):
        raise FormatError(f"policies: serving: texts by name expected, got {shown(serving)}")
    return StudyPolicy(name=value["name"], digest=value["digest"], serving=dict(serving))


def _policy_differences(here: tuple[StudyPolicy, ...], there: tuple[StudyPolicy, ...]) -> list[str]:
    known, wanted = ({policy.name: policy for policy in group} for group in (here, there))
    lines = []
    for name in sorted({*known, *wanted}, key=str):
        if name not in wanted:
            lines.append(f"policy {shown(name)}: here, absent there")
        elif name not in known:
            lines.append(f"policy {shown(name)}: absent here, there")
        else:
            first, second = known[name], wanted[name]
            if first.digest != second.digest:
                lines.append(
                    f"policy {shown(name)}: digest {shown(first.digest)} here, "
                    f"{shown(second.digest)} there"
                )
            lines += [
                f"policy {shown(name)}: {key} {shown(first.serving.get(key))} here, "
                f"{shown(second.serving.get(key))} there"
                for key in sorted({*first.serving, *second.serving})
                if first.serving.get(key) != second.serving.get(key)
            ]
    return lines
