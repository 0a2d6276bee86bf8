"""Import the modules named, which writes the byte code of all that they import.

On a read-only file system Python can't write any later, and would compile at each start. A module
that needs the system's libraries, which are in another stage, is compiled as far as it comes.
"""

import importlib
import sys

for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: compiled in part ({error})")
