"""What a run goes on with: its own configuration, or one that is changed from here on."""

from __future__ import annotations

import sys

from trainer.configuration_changes import held_before
from trainer.learner import learning_rate_at
from trainer.provenance import now
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory, RunError


def begun_config(run: RunDirectory) -> RunConfig | None:
    """Of what the folder holds; None where it cannot be read, of which its `check` tells."""
    try:
        return run.stored_config()
    except (OSError, RunError):
        return None


def require_goes_on(config: RunConfig, run: RunDirectory, step: int) -> None:
    """After so many optimizer steps, where its budget may be another than it began with.

    Raises RunError.
    """
    total = config.total_steps
    if total < step:
        raise RunError(
            f"{run.root}: expected a budget of at least the {step} optimizer steps that are done, "
            f"got {total}; choose another --output"
        )
    if step == 0 and run.final_checkpoint.exists() and not run.is_finished(total):
        raise RunError(
            f"{run.root}: a finished run without its training_state, from which it would go on to "
            f"{total} optimizer steps; choose another --output"
        )


def change_configuration(config: RunConfig, run: RunDirectory, step: int) -> None:
    """What the run goes on with after optimizer step `step` is recorded, and told in a line."""
    changed = run.change(config, step=step, created=now())
    if not changed:
        return
    words = [f"{name} {new!r} in place of {old!r}" for name, (old, new) in changed.items()]
    line = f"from optimizer step {step + 1} on: {', '.join(words)}"
    changes = run.changes()
    # None where it goes on with what it had, after changes that no step was saved with.
    if changes and changes[-1].after_step == step < config.total_steps:
        before = held_before(config, changes[-1])
        last, planned = (
            learning_rate_at(at, before.total_steps, before.optimizer) for at in (step - 1, step)
        )
        rate = learning_rate_at(step, config.total_steps, config.optimizer)
        if rate != planned:
            line += f"; the learning rate goes from {last:.3g} to {rate:.3g}"
    where = f"{run.root}/changes.json has it" if step else "nothing was saved before"
    print(f"{line}; {where}", file=sys.stderr)
