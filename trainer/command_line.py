"""The console script `trainer`: train, look at recipes and checkpoints, and handle robot data.

Exit codes: 0 done, 1 the work failed, 2 bad usage or bad input, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from policy_interface.printable import printable
from policy_interface.usage import UsageError, require_verb

_USAGE = """\
usage: trainer VERB ...

Makes checkpoints: of robot policies from demonstrations, of language models from text.

  trainer train RECIPE --data FOLDER --output RUN    train, or resume a training
  trainer list                                       say which recipes there are
  trainer show RECIPE                                print a recipe, or a file of one, resolved
  trainer sample CHECKPOINT PROMPT                   let a language model go on, or a model answer
  trainer ask CHECKPOINT --data SCENES               how often a model is right about pictures
  trainer inspect CHECKPOINT                         say what a checkpoint is
  trainer average CHECKPOINT CHECKPOINT [...]        average the weights of policies
  trainer plot RUN [RUN ...] --output FOLDER         lay the curves of runs over one another
  trainer predict POLICY [...] --output FOLDER       draw policies' plans beside what a teacher did
  trainer import foundry FOLDER --output MODEL       make a model of VLA Foundry ours
  trainer export hf CHECKPOINT --output FOLDER       make a repository for the Hugging Face hub
  trainer data VERB ...                              convert, check and show robot data

example:
  trainer train pick_and_place_box --data demos/PickAndPlaceBox --output runs/box
  trainer inspect runs/box/checkpoints/final
  trainer train tiny_lm --data texts --output runs/lm
  trainer sample runs/lm/checkpoints/final "The robot"

`trainer VERB --help` lists a verb's options.
"""

_VERBS = (
    "train",
    "list",
    "show",
    "sample",
    "ask",
    "inspect",
    "average",
    "plot",
    "predict",
    "import",
    "export",
    "data",
)
# They train nothing; most of `data` needs no torch.
_APART = ("plot", "predict", "import", "export", "data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    verb, *rest = words
    try:
        require_verb(verb, _VERBS)
    except UsageError as error:
        return _complain(str(error), 2)
    if verb in _APART:
        return _run_apart(verb, rest)
    try:
        # Here and not above: they need torch, which a user may lack, and seconds to import.
        from trainer.verbs.dispatch import VerbError, run_verb
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] in ("trainer", "policy_interface"):
            raise
        return _complain(_not_installed(missing, "train"), 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    try:
        run_verb(verb, rest)
    except VerbError as error:
        return error.exit_code if error.is_told else _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    return 0


def _run_apart(verb: str, words: Sequence[str]) -> int:
    """Verbs with a package of their own."""
    from trainer.data.errors import DataError
    from trainer.exporting.errors import ExportError
    from trainer.importing.errors import ImportingError
    from trainer.plotting.errors import PlottingError

    try:
        if verb == "import":
            from trainer.importing.verb import run_import

            return run_import(words)
        if verb == "export":
            from trainer.exporting.verb import run_export

            return run_export(words)
        if verb == "plot":
            from trainer.plotting.plot_verb import run_plot

            return run_plot(words)
        if verb == "predict":
            from trainer.plotting.predict_verb import run_predict

            return run_predict(words)
        from trainer.data.command_line import run_data_verb

        return run_data_verb(words)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] in ("trainer", "policy_interface"):
            raise
        extra = "data" if verb == "data" else "train"
        return _complain(_not_installed(missing, extra), 2)
    except (DataError, UsageError, ImportingError, ExportError, PlottingError) as error:
        return _complain(str(error), 2)
    except (OSError, MemoryError) as error:
        # Python's own says nothing.
        return _complain(str(error) or "out of memory", 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _not_installed(module: str, extra: str) -> str:
    return f"{module} is not installed: pip install '.[{extra}]' in Assay's checkout"


def _complain(message: str, exit_code: int) -> int:
    print(f"trainer: {printable(message)}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
