"""Print what an image holds, as a software bill of materials in CycloneDX 1.5.

Python's packages by their installed metadata, Debian's by dpkg's list.
"""

import json
import subprocess
import sys
from importlib.metadata import distributions

DEBIAN_FIELDS = "${Package}\t${Version}\t${Architecture}\n"


def python_components() -> list[dict[str, str]]:
    return [
        {
            "type": "library",
            "name": each.metadata["Name"],
            "version": each.version,
            "purl": f"pkg:pypi/{each.metadata['Name'].lower().replace('_', '-')}@{each.version}",
        }
        for each in distributions()
    ]


def debian_components() -> list[dict[str, str]]:
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
