"""Open as many descriptors as possible, N at most: descriptors N. Prints how many."""

import os
import resource
import sys

opened = 0
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]) + 16,) * 2)
except (OSError, ValueError):
    pass
try:
    for _ in range(int(sys.argv[1])):
        os.open("/dev/null", os.O_RDONLY)
        opened += 1
except OSError:
    pass
print("OPENED", opened)
