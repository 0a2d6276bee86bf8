"""Whether an evaluation is like an earlier one, by its provenance.

What matters is what an outcome may depend on: the checkpoint and how it is executed, what the
station is and how it is shifted, the rule that makes seeds of scenarios, and on either side the
versions and the hardware that decide the last bit of a number or a pixel. The rest is noted:
which scenarios of which tasks are run, as more of the same is what an evaluation is extended by;
names and places; Python's own version, which computes nothing here; and the image of a container,
which is another one after each build, while what is in it is compared by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from step_analysis.provenance import Facts, Provenance
from step_analysis.strict_json import shown

_SERVER_MATTERS = ("assay", "device", "machine", "numpy", "torch")
_SIMULATOR_MATTERS = ("assay", "assay_source", "drake", "gl_renderer", "machine", "numpy")
_SEEDS_MATTER = ("range", "first_seed")
_BY_TASK = "time_limits_s."

ABSENT = "not stated"


def differences(
    like: Provenance, now: Provenance, *, allowed: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """What differs, a line each: what matters, and what is only noted.

    allowed: names such as `server.torch`, or `server` for all of it; these are noted. What `now`
    does not know of a simulator that has not started, such as its OpenGL, is not compared.
    """
    matters: list[str] = []
    noted: list[str] = []
    found = [
        *_of_facts("policy", like.policy, now.policy, matters=None, but=("name",)),
        *_of_protocol(like, now),
        *_of_facts("seeds", like.seeds, now.seeds, matters=_SEEDS_MATTER),
    ]
    for facts in now.servers:
        found += _of_machine("server", like.servers, facts, matters=_SERVER_MATTERS)
    for facts in now.simulators:
        known = [{key: each[key] for key in facts if key in each} for each in like.simulators]
        found += _of_machine("simulator", known, facts, matters=_SIMULATOR_MATTERS)
    for name, line, does_matter in found:
        (matters if does_matter and not is_allowed(name, allowed) else noted).append(line)
    return matters, noted


def simulator_differences(
    like: Sequence[Facts], facts: Facts, allowed: Collection[str]
) -> list[str]:
    """What matters of what a simulator says of itself, a line each."""
    found = _of_machine("simulator", like, facts, matters=_SIMULATOR_MATTERS)
    return [line for name, line, matters in found if matters and not is_allowed(name, allowed)]


def refusal(like: str, lines: Sequence[str], *, policy: str = "") -> str:
    """What is said where something that matters differs. policy: whose evaluation it is."""
    whose = f"this evaluation of {shown(policy)}" if policy else "this evaluation"
    return "\n  ".join(
        [
            f"{whose} would not be like {like} (there), and outcomes may depend on it; "
            "make them equal, or name what may differ with --allow-different:",
            *lines,
        ]
    )


def is_allowed(name: str, allowed: Collection[str]) -> bool:
    """Whether the name, or what it is a part of, is among those allowed to differ."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in allowed for length in range(1, len(parts) + 1))


def may_be_allowed(name: str) -> bool:
    """Whether there is such a name, as far as can be known before anything differs."""
    group, _, rest = name.partition(".")
    known = {"server": _SERVER_MATTERS, "simulator": _SIMULATOR_MATTERS, "seeds": _SEEDS_MATTER}
    return group in ("policy", "protocol", *known) and (
        not rest or group not in known or rest in known[group]
    )


# Its name, the line that tells of it, and whether it matters.
_Difference = tuple[str, str, bool]


def _of_machine(
    group: str, like: Sequence[Facts], facts: Facts, *, matters: Collection[str]
) -> list[_Difference]:
    """Against the machine of then that is most like it."""
    each = [list(_of_facts(group, then, facts, matters=matters)) for then in like or ({},)]
    return min(each, key=lambda found: sum(does_matter for _, _, does_matter in found))


def _of_facts(
    group: str,
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    matters: Collection[str] | None,
    but: Collection[str] = (),
) -> Iterator[_Difference]:
    """matters: the names that do; None for all but some."""
    for key in sorted({*then, *now}):
        if then.get(key) == now.get(key):
            continue
        name = f"{group}.{key}"
        line = f"{name}: {_told(then, key)} there, {_told(now, key)} here"
        yield name, line, key not in but if matters is None else key in matters


def _of_protocol(like: Provenance, now: Provenance) -> Iterator[_Difference]:
    then, here = _flat(like.protocol), _flat(now.protocol)
    # Which tasks are run is noted among the seeds.
    of_one_only = {name for name in then.keys() ^ here.keys() if name.startswith(_BY_TASK)}
    for flat in (then, here):
        for name in of_one_only & flat.keys():
            del flat[name]
    return _of_facts("protocol", then, here, matters=None)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= _flat(inner, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = inner
    return flat


def _told(facts: Mapping[str, Any], key: str) -> str:
    return shown(facts[key]) if key in facts else ABSENT
