"""`trainer data VERB`: convert, inspect, stats, doctor, play, text.

A verb's `main` returns the exit code: 0 done, 1 where a check found something.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

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
    from policy_interface.usage import UsageError

    if not words or words[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    verb, *rest = words
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UsageError(f"data: unknown verb {verb!r}{hint}; there are {', '.join(VERBS)}")
    return importlib.import_module(VERBS[verb]).main(rest)
