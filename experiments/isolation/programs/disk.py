"""Write as much as possible, N files of one MiB at most: disk N. Prints how much."""

import os
import sys

os.makedirs("disk", exist_ok=True)
written = 0
try:
    for number in range(int(sys.argv[1])):
        with open(f"disk/{number}", "wb") as file:
            file.write(bytes(1 << 20))
        written += 1
except OSError:
    pass
print("WRITTEN", written)
