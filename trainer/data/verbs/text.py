"""`trainer data text inspect` and `trainer data text doctor`: text, and pictures with words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why, require_verb
from trainer.data.doctor.finding import Finding, Severity
from trainer.data.doctor.report import told, verdict
from trainer.data.text.doctor import (
    TextExamination,
    examine,
    finding_to_json,
    shared_findings,
)
from trainer.data.text.overview import Lengths, TextOverview, overview
from trainer.data.text.sources import open_source
from trainer.data.text.tokenizer import TextTokenizer

_USAGE = """\
usage: trainer data text VERB ...

Looks at text, and at pictures with words, as a training would read them.

  trainer data text inspect SOURCE    a table of what it holds
  trainer data text doctor SOURCE     find what ruins a training; exit code 1 if it does

example:
  trainer data text inspect data/captions

`trainer data text VERB --help` lists a verb's options.
"""

_INSPECT = """Say what text holds: documents by kind, how long they are, their pictures.

example: trainer data text inspect data/captions --tokenizer tokenizer.json"""

_DOCTOR = """Find what ruins a training on text, or on pictures with words.

Reads every document and decodes every picture. Says of each fault where it is, what was measured,
what it costs and how to mend it. Exits with 1 where a finding is as bad as --fail-on says.

example: trainer data text doctor data/captions
         trainer data text doctor --train data/train --validation data/held_out"""

# Of sizes of pictures, in a table.
_MOST_SIZES = 5


@dataclass(frozen=True, kw_only=True)
class InspectArguments:
    """What to look at.

    Attributes:
        source: A folder or file of .jsonl(.gz, .zst), .parquet, .tar, .txt, .md, .rst or .py.
        tokenizer: A tokenizer.json, or a folder with one, to count tokens with.
        json: Print one JSON object.
    """

    source: tyro.conf.Positional[str]
    tokenizer: Path | None = None
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@dataclass(frozen=True, kw_only=True)
class DoctorArguments:
    """What to examine.

    Attributes:
        source: A folder or file of .jsonl(.gz, .zst), .parquet, .tar, .txt, .md, .rst or .py.
        train: With --validation: the training data. Both are examined.
        validation: Data that must share no document with --train.
        fail_on: Exit with 1 from this severity on.
        json: Print one JSON object.
    """

    source: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="SOURCE")]] = None
    train: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    validation: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    fail_on: Literal["warning", "error"] = "error"
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(words: Sequence[str]) -> int:
    """Raises DataError for data that cannot be read, UsageError for bad usage."""
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    verb, *rest = words
    require_verb(verb, list(_VERBS), of="data text")
    return _VERBS[verb](rest)


def _inspect(words: Sequence[str]) -> int:
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            InspectArguments, args=words, prog="trainer data text inspect", description=_INSPECT
        )
    )
    encode = None if parsed.tokenizer is None else TextTokenizer(parsed.tokenizer).encode
    facts = overview(open_source(parsed.source), encode, progress=_progress("reading"))
    if parsed.json:
        print(json.dumps(facts.to_json(), indent=2))
    else:
        print("\n".join(map(printable, _table(facts))))
    return 0


def _doctor(words: Sequence[str]) -> int:
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            DoctorArguments, args=words, prog="trainer data text doctor", description=_DOCTOR
        )
    )
    if (parsed.train is None) is not (parsed.validation is None):
        raise UsageError("doctor: --train and --validation go together")
    if (parsed.source is None) is (parsed.train is None):
        raise UsageError("doctor: give a source, or --train and --validation")
    examinations = [
        examine(open_source(source), progress=_progress(f"examining {source}"))
        for source in (parsed.source, parsed.train, parsed.validation)
        if source is not None
    ]
    between = shared_findings(*examinations) if parsed.train is not None else []
    findings = [finding for one in examinations for finding in one.findings] + between
    if parsed.json:
        facts = {
            "data_sets": [one.to_json() for one in examinations],
            "between_train_and_validation": list(map(finding_to_json, between)),
        }
        print(json.dumps(facts, indent=2))
    else:
        for one in examinations:
            print("\n".join(map(printable, _report(one))))
        if between:
            lines = told(between, examinations[1].num_documents, "document")
            print("\n".join(map(printable, lines)))
        print(verdict(findings))
    return int(_is_bad(findings, Severity(parsed.fail_on)))


def _is_bad(findings: Sequence[Finding], level: Severity) -> bool:
    return any(finding.severity.reaches(level) for finding in findings)


def _report(examination: TextExamination) -> Iterator[str]:
    yield (
        f"{examination.where}: {examination.num_documents} documents, "
        f"{examination.num_pictures} pictures"
    )
    yield ""
    yield from told(examination.findings, examination.num_documents, "document")


def _table(facts: TextOverview) -> Iterator[str]:
    kinds = ", ".join(f"{kind} ({number})" for kind, number in facts.kinds.items())
    yield facts.where
    yield f"  documents   {facts.num_documents}: {kinds}"
    if facts.num_turns:
        yield f"  turns       {facts.num_turns}, {facts.num_answers} of them the assistant's"
    if facts.num_pictures:
        sizes = [f"{size} ({number})" for size, number in facts.picture_sizes.items()]
        more = [f"{len(sizes) - _MOST_SIZES} more sizes"] * (len(sizes) > _MOST_SIZES)
        yield f"  pictures    {facts.num_pictures}: {', '.join(sizes[:_MOST_SIZES] + more)}"
    if facts.characters is not None:
        yield f"  characters  {_in_words(facts.characters)}"
    if facts.tokens is not None:
        yield f"  tokens      {_in_words(facts.tokens)}"


def _in_words(lengths: Lengths) -> str:
    return (
        f"{lengths.total}; a document has {lengths.least} to {lengths.greatest}, "
        f"median {lengths.median:g}, 95 % at most {lengths.percentile_95:g}, "
        f"99 % {lengths.percentile_99:g}"
    )


def _progress(what: str) -> Callable[[range], Any]:
    return lambda numbers: tqdm(
        numbers, desc=what, unit="document", leave=False, file=sys.stderr, disable=None
    )


_VERBS = MappingProxyType({"inspect": _inspect, "doctor": _doctor})
