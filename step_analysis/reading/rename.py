"""VLA Foundry's rename.yaml: shorter names for tasks and models.

Lies in the folder that is named on the command line (`eval_results/` in the release), and holds
for everything below it; naming a folder further down renames nothing, as in Foundry's own
dashboard. Format: `data_loading.py` and `eval_results/rename.yaml` in `vla_foundry/eval/` of
github.com/TRI-ML/vla_foundry. Foundry's loader ignores `models`; here they are renamed too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step_analysis.ledger import LedgerError
from step_analysis.rollouts import check_name
from step_analysis.strict_json import FormatError, read_bounded, shown

RENAME_FILE_NAME = "rename.yaml"
_MAX_BYTES = 1 << 20
_IGNORED = ("task_groups",)
"""Names of subsets of tasks, which change no number."""


@dataclass(frozen=True, kw_only=True)
class Renaming:
    """New names by old ones; what is not named keeps its name."""

    path: Path | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    def policy(self, found: str) -> str:
        """The name of the policy found as 'model' or 'set/model'; the set stays in front."""
        if found in self.models:
            return self.models[found]
        folder, slash, model = found.rpartition("/")
        return f"{folder}{slash}{self.models.get(model, model)}"


def read_renaming(folder: Path) -> Renaming:
    """The renaming in `folder`; an empty one if there is none.

    Raises:
        LedgerError: not YAML, an alias (with which a small file describes an endless one), or
            anything but maps from names to names; names the file and the field.
        OSError: the file can't be read.
    """
    path = folder / RENAME_FILE_NAME
    if not path.is_file():
        return Renaming()
    try:
        sections = _sections(read_bounded(path, _MAX_BYTES))
        return Renaming(
            path=path,
            tasks=_names(sections.get("tasks"), "tasks"),
            models=_names(sections.get("models"), "models"),
        )
    except FormatError as error:
        raise LedgerError(f"{path}: {error}") from None


def _sections(content: bytes) -> dict[str, Any]:
    """The document's top-level nodes by name: nothing is constructed from them."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise FormatError(
            "reading it needs PyYAML; run: pip install '.[analysis]' in Assay's checkout"
        ) from None

    try:
        if any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, yaml.SafeLoader)
        ):
            raise FormatError("YAML aliases are not read; write the names out")
        root = yaml.compose(content, yaml.SafeLoader)
    except RecursionError:
        raise FormatError("nested too deeply") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise FormatError(f"not YAML: {error}") from None
    if root is None:
        return {}
    sections = _pairs(root, "the document")
    unknown = sections.keys() - {"tasks", "models", *_IGNORED}
    if unknown:
        raise FormatError(
            f"unknown section {shown(min(unknown))}; 'models', 'tasks' and 'task_groups' are known"
        )
    return sections


def _names(node: Any, section: str) -> dict[str, str]:
    if node is None or node.value == "":
        return {}
    names = {}
    for old, value in _pairs(node, section).items():
        if not isinstance(value.value, str):
            raise FormatError(f"{section}.{old}: a name expected, got a {value.id}")
        names[old] = check_name(value.value, f"{section}.{old}")
    doubled = [new for new in names.values() if list(names.values()).count(new) > 1]
    if doubled:
        raise FormatError(f"{section}: two are renamed to {shown(doubled[0])}; one name each")
    return names


def _pairs(node: Any, what: str) -> dict[str, Any]:
    """Nodes by key of a YAML mapping."""
    if node.id != "mapping":
        raise FormatError(f"{what}: a YAML mapping expected, got a {node.id}")
    pairs: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key.value, str):
            raise FormatError(f"{what}: a name expected as key, got a {key.id}")
        if key.value in pairs:
            raise FormatError(f"{what}: {shown(key.value)} is there twice")
        pairs[key.value] = value
    return pairs
