"""SciPy's special functions, imported as the first of them is used.

Importing them takes as long as reading a hundred files of results; whoever shows counts and no
verdict needs none.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    # Here, not above: this is what is put off.
    from scipy import special

    function = getattr(special, name)
    # The next time it is found without asking here.
    globals()[name] = function
    return function
