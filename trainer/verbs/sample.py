"""`trainer sample`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from policy_interface.printable import printable
from policy_interface.usage import UsageError
from trainer.checkpoint_files import checkpoint_kind
from trainer.data.text.vocabulary import Vocabulary
from trainer.language_checkpoint import read_language_checkpoint
from trainer.language_sampling import continuation
from trainer.models.language.generation import GenerationConfig
from trainer.scarce_memory import memory_told
from trainer.speaker import SPEAKING_KINDS
from trainer.verbs.arguments import parse_arguments
from trainer.verbs.speaking import moved, moved_speaker


@dataclass(frozen=True, kw_only=True)
class SampleArguments:
    """Let a language model go on from a prompt, or a vision-language model or a policy answer.

    Attributes:
        checkpoint: Its folder, such as runs/lm/checkpoints/final.
        prompt: A document's beginning; a question to a vision-language model or a policy.
        image: A JPEG or PNG file that the question is about.
        max_new_tokens: Tokens that are said, at most.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Only so many of the likeliest tokens may be drawn; None for all.
        top_p: Only the likeliest tokens that together have this probability; 1 for all.
        num_samples: Continuations, each of another seed.
        seed: Of the first one's draws.
        device: cpu, cuda or cuda:N.
    """

    checkpoint: tyro.conf.Positional[Path]
    prompt: tyro.conf.Positional[str]
    image: Path | None = None
    max_new_tokens: int = 128
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    num_samples: int = 1
    seed: int = 0
    device: str = "cpu"


def main(arguments: Sequence[str]) -> None:
    """Print what the model says."""
    parsed = parse_arguments(
        SampleArguments,
        arguments,
        program="trainer sample",
        description="Let a language model go on from a prompt.\n\n"
        'example: trainer sample runs/lm/checkpoints/final "The robot" --temperature 0.5',
    )
    drawn = GenerationConfig(
        max_new_tokens=parsed.max_new_tokens,
        temperature=parsed.temperature,
        top_k=parsed.top_k,
        top_p=parsed.top_p,
    )
    if parsed.num_samples < 1:
        raise UsageError(f"sample: --num-samples: expected 1 or more, got {parsed.num_samples}")
    with memory_told(parsed.device, ("a shorter prompt", "fewer --max-new-tokens")):
        say = _speaker(parsed)
        for number in range(parsed.num_samples):
            text = say(replace(drawn, seed=parsed.seed + number))
            print("".join(each if each in "\n\t" else printable(each) for each in text))


def _speaker(arguments: SampleArguments) -> Callable[[GenerationConfig], str]:
    """What the model says to the prompt."""
    path = arguments.checkpoint
    if checkpoint_kind(path) in SPEAKING_KINDS:
        speaker = moved_speaker(path, "sample", arguments.device)
        images = [] if arguments.image is None else [arguments.image.read_bytes()]
        return lambda drawn: speaker.answer(arguments.prompt, images, drawn)
    checkpoint = read_language_checkpoint(path)
    if arguments.image is not None:
        raise UsageError(f"sample: --image: {path} is a language model, which sees nothing")
    vocabulary = Vocabulary.of(checkpoint.build_tokenizer())
    model = moved(checkpoint.build_model(), "sample", arguments.device)
    prompt = arguments.prompt
    return lambda drawn: prompt + continuation(model, vocabulary, prompt, drawn)
