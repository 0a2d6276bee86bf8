"""Which of the simulation's tasks a script is asked for."""

from __future__ import annotations

import argparse

from sim_client.tasks.catalog import UnknownTaskError, get_tasks


def task_names(parser: argparse.ArgumentParser, text: str) -> list[str]:
    """Of names and sets, separated by commas; ends the program where one is unknown."""
    try:
        return [task.name for task in get_tasks(text.split(","))]
    except UnknownTaskError as error:
        parser.error(f"--tasks: {error}")
