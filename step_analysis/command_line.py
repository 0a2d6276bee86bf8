"""The console script `step-analysis`."""

import logging
import sys
from collections.abc import Sequence

from step_analysis.ledger import LedgerError
from step_analysis.usage import UsageError, parse_or_say_why

_EXTRA_MODULES = frozenset({"PIL", "numpy", "scipy", "starlette", "tyro", "uvicorn"})
_BAD_PATH_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit: 0 done, 1 the work failed, 2 bad usage or bad input, 130 on Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(given)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA_MODULES:
            raise
        what = f"{error.name} is not installed"
        _exit(f"{what}; run: pip install '.[analysis]' in Assay's checkout", 2)
    except (LedgerError, UsageError) as error:
        _exit(str(error), 2)
    except OSError as error:
        _exit(str(error), 2 if isinstance(error, _BAD_PATH_ERRORS) else 1)
    except KeyboardInterrupt:
        _exit("interrupted", 130)


def _run(arguments: list[str]) -> None:
    # Here, not above: what is missing from the analysis extra is then one clear line.
    import tyro

    from step_analysis.verbs import VERBS

    verb = parse_or_say_why(
        lambda: tyro.extras.subcommand_cli_from_dict(
            dict(VERBS),
            prog="step-analysis",
            description="What the rollouts of robot policies prove.",
            args=arguments,
        )
    )
    verb.run(arguments)


def _exit(message: str, code: int) -> None:
    print(f"step-analysis: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
