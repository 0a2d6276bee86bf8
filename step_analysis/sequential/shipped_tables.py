"""Make the tables that ship: python -m step_analysis.sequential.shipped_tables

Those of published panels, so that a report on them starts at once: budgets of 50, 100 and 200
episodes, aggregates of 200 episodes of 16 and of 19 tasks, and levels of Bonferroni over all
pairs of up to twelve policies. Tables that are there already are left alone.
"""

import time
from collections.abc import Iterator

from step_analysis.sequential.step_design import StepDesign
from step_analysis.sequential.step_tables import (
    SHIPPED_TABLES,
    make_table,
    table_name,
    write_table,
)

_ALPHA = 0.05
_TASK_BUDGETS = (50, 100, 200)
_MAX_POLICIES = 12
_AGGREGATE_PANELS = (12, 9, 3, 2)
_AGGREGATE_BUDGETS = (3800, 3200)


def shipped_designs() -> Iterator[StepDesign]:
    """The quick ones first."""
    for n_max in _TASK_BUDGETS:
        for num_policies in range(2, _MAX_POLICIES + 1):
            yield _both_directions(n_max, num_policies)
        # Alpha for each direction by itself, as in published tables.
        for num_pairs in (1, 3, 28, 36, 66):
            yield StepDesign(n_max=n_max, alpha_per_side=_ALPHA / num_pairs)
    for num_policies in (2, 3):
        yield _both_directions(500, num_policies)
    yield StepDesign(n_max=500, alpha_per_side=_ALPHA)
    for num_policies in _AGGREGATE_PANELS:
        for n_max in _AGGREGATE_BUDGETS:
            yield _both_directions(n_max, num_policies)


def _both_directions(n_max: int, num_policies: int) -> StepDesign:
    num_pairs = num_policies * (num_policies - 1) // 2
    return StepDesign(n_max=n_max, alpha_per_side=_ALPHA / 2.0 / num_pairs)


def main() -> None:
    for design in shipped_designs():
        path = SHIPPED_TABLES / table_name(design)
        if path.exists():
            continue
        begin = time.perf_counter()
        table = make_table(design)
        write_table(path, table)
        print(
            f"{path.name}: {time.perf_counter() - begin:.1f} s, {path.stat().st_size} bytes, "
            f"type-1 error at most {table.certificate.type1_sup:.6g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
