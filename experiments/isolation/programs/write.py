"""Append a word to each file named: write WORD PATH..."""

import sys

for path in sys.argv[2:]:
    with open(path, "a") as file:
        file.write(sys.argv[1])
