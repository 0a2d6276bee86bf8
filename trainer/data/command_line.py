"""`trainer data VERB`: convert, inspect, stats, doctor, play, text.

A verb's `main` returns the exit code: 0 done, 1 where a check found something.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from policy_interface.usage import require_verb

_USAGE = """\
usage: trainer data VERB ...

Reads robot data in the formats that people have, and knows when it is bad.

  trainer data convert SOURCE DESTINATION    to the training format, LeRobot or Foundry shards
  trainer data inspect SOURCE                a table of what it holds, and a contact sheet
  trainer data stats SOURCE                  statistics of its fields in one pass
  trainer data doctor SOURCE                 find what ruins policies; exit code 1 if it does
  trainer data play SOURCE EPISODE           a film of an episode
  trainer data text VERB SOURCE              inspect or doctor, of text and pictures with words

example:
  trainer data convert demos/PickAndPlaceBox data/box

`trainer data VERB --help` lists a verb's options.
"""

VERBS = {
    "convert": "trainer.data.verbs.convert",
    "inspect": "trainer.data.verbs.inspect",
    "stats": "trainer.data.verbs.stats",
    "doctor": "trainer.data.verbs.doctor",
    "play": "trainer.data.verbs.play",
    "text": "trainer.data.verbs.text",
}


def run_data_verb(words: Sequence[str]) -> int:
    """Raises DataError for bad data, and UsageError for bad usage."""
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    verb, *rest = words
    require_verb(verb, list(VERBS), of="data")
    return importlib.import_module(VERBS[verb]).main(rest)
