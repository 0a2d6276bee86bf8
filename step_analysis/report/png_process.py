"""A process that draws PNGs: pickled drawings and their scheme come in, pickled files go out.

Only `rendering` starts it, and speaks with it over pipes.
"""

import pickle
import sys

from step_analysis.report.png import png_file


def main() -> None:
    """Draw what is asked for on the standard input."""
    drawings, scheme = pickle.load(sys.stdin.buffer)  # noqa: S301 - only `rendering` writes here
    files = [png_file(drawing, scheme) for drawing in drawings]
    sys.stdout.buffer.write(pickle.dumps(files, protocol=pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()
