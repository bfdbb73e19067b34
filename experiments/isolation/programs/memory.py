"""Hold as much memory as possible, N MiB at most: memory N. Prints how much, again and again."""

import sys

held = []
for number in range(1, int(sys.argv[1]) + 1):
    held.append(bytearray(b"x" * (1 << 20)))
    if number % 16 == 0:
        print("TOUCHED", number, flush=True)
