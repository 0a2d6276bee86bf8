"""Time and power of the sequential tests by budget: python benchmarks/step_analysis_tests.py"""

import sys
import time

from step_analysis.sequential.lai import lai_characteristics, solve_c
from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.step_synthesis import synthesise

ALPHA_PER_SIDE = 0.025
RATES = (0.5, 0.7)


def main() -> None:
    budgets = [int(argument) for argument in sys.argv[1:]] or [10, 50, 100, 200]
    print(
        f"alpha {ALPHA_PER_SIDE} a side; power and expected episodes at {RATES[0]} and {RATES[1]}"
    )
    heads = ("budget", "STEP made", "power", "E[N]", "Lai c", "power", "E[N]")
    widths = (7, 10, 6, 6, 9, 6, 6)
    print(" ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    for n_max in budgets:
        start = time.perf_counter()
        boundary = synthesise(n_max, ALPHA_PER_SIDE)
        step_s = time.perf_counter() - start
        step = operating_characteristics(boundary, *RATES)
        start = time.perf_counter()
        c = solve_c(n_max, ALPHA_PER_SIDE)
        lai_s = time.perf_counter() - start
        lai = lai_characteristics(n_max, c, *RATES)
        print(
            f"{n_max:>7} {step_s:>8.2f} s {float(step.arm1_better):>6.3f} "
            f"{float(step.expected_time):>6.1f} {lai_s:>7.2f} s {lai.arm1_better:>6.3f} "
            f"{lai.expected_time:>6.1f}"
        )


if __name__ == "__main__":
    main()
