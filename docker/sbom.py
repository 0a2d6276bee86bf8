"""Print what an image holds, as a software bill of materials in CycloneDX 1.5.

Python's packages by their installed metadata, with the hash of the list of their files and hashes,
Debian's by dpkg's list. Two images that hold the same have the same bill.
"""

import hashlib
import json
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from typing import Any

DEBIAN_FIELDS = "${Package}\t${Version}\t${Architecture}\n"


def python_components() -> list[dict[str, Any]]:
    return [
        {
            "type": "library",
            "name": each.metadata["Name"],
            "version": each.version,
            "purl": f"pkg:pypi/{each.metadata['Name'].lower().replace('_', '-')}@{each.version}",
            "hashes": hashes(each),
        }
        for each in distributions()
    ]


def hashes(distribution: Distribution) -> list[dict[str, str]]:
    record = distribution.read_text("RECORD") or ""
    # What byte code was made of it is no part of it.
    lines = sorted(line for line in record.splitlines() if ".pyc," not in line)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return [{"alg": "SHA-256", "content": digest}] if lines else []


def debian_components() -> list[dict[str, Any]]:
    listed = subprocess.run(
        ["/usr/bin/dpkg-query", "--show", f"--showformat={DEBIAN_FIELDS}"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    return [
        {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{name}@{version}?arch={architecture}",
        }
        for name, version, architecture in rows
    ]


components = sorted(python_components() + debian_components(), key=lambda each: each["purl"])
bill = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
json.dump(bill, sys.stdout, indent=1)
