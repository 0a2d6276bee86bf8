"""`trainer ask`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from policy_interface.printable import printable
from policy_interface.usage import UsageError
from trainer.asking import questions_of, scores
from trainer.data.text.sources import open_source
from trainer.models.language.generation import GenerationConfig
from trainer.scarce_memory import memory_told
from trainer.verbs.arguments import parse_arguments
from trainer.verbs.speaking import moved_speaker


@dataclass(frozen=True, kw_only=True)
class AskArguments:
    """Ask a model all that some data ask about pictures, and say how often it is right.

    Attributes:
        checkpoint: Of a vision-language model, or of a policy that has one of ours.
        data: Dialogues, questions or captions about pictures, as a training takes them.
        most_documents: Of the data, the first ones, at most.
        max_new_tokens: Tokens of an answer, at most.
        device: cpu, cuda or cuda:N.
        json: Print JSON.
    """

    checkpoint: tyro.conf.Positional[Path]
    data: str
    most_documents: int | None = None
    max_new_tokens: int = 48
    device: str = "cpu"
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str]) -> None:
    """Print how many answers of each kind of question are right."""
    parsed = parse_arguments(
        AskArguments,
        arguments,
        program="trainer ask",
        description="Ask a model all that some data ask about pictures, and say how often it is "
        "right.\n\nexample: trainer ask runs/vla/checkpoints/final --data scenes_held_out",
    )
    drawn = GenerationConfig(max_new_tokens=parsed.max_new_tokens, temperature=0.0)
    # Pictures that were asked about are kept until all are counted.
    with memory_told(parsed.device, ("fewer --most-documents", "fewer --max-new-tokens")):
        speaker = moved_speaker(parsed.checkpoint, "ask", parsed.device)
        documents = islice(open_source(parsed.data), parsed.most_documents)
        shown = tqdm(
            questions_of(documents), desc="asked", unit="question", disable=None, leave=False
        )
        found = scores(shown, lambda one: speaker.answer(one.text, one.images, drawn))
    if not found:
        raise UsageError(f"ask: {parsed.data}: expected questions about pictures, got none")
    if parsed.json:
        facts = {"checkpoint": str(parsed.checkpoint), "data": parsed.data}
        print(json.dumps({**facts, "kinds": [asdict(one) for one in found]}, indent=2))
        return
    width = max(len("question"), *(len(one.kind) for one in found))
    print(f"{'question':<{width}}  asked  right         numbers off by")
    for one in found:
        off = "" if one.median_off is None else f"{one.median_off:.1f} (median)"
        rate = one.num_right / one.num_questions
        row = f"{one.kind:<{width}}  {one.num_questions:5}  {one.num_right:5} {rate:6.1%}  {off}"
        print(printable(row.rstrip()))
