"""What a policy is served by: versions, the kind of machine, and the device that computes."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

from policy_interface.image_bill import image_facts
from policy_server.policy import Policy

_DISTRIBUTIONS = ("assay", "numpy", "torch")


def host_facts(policy: Policy) -> dict[str, str]:
    """By name; without what is not installed or not known, such as the device of a policy that
    does not say where it computes."""
    facts = {
        **image_facts(),
        "machine": platform.machine(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    for name in _DISTRIBUTIONS:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = getattr(policy, "device", None)
    if device is not None:
        facts["device"] = _device_name(device)
    return dict(sorted(facts.items()))


def _device_name(device: Any) -> str:
    """The GPU's, as two kinds of them do not compute the same; otherwise the device as it is."""
    torch = sys.modules.get("torch")
    if torch is not None and getattr(device, "type", None) == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return str(device)
