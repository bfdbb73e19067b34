"""Print the environment and the open regular files of every process in sight."""

import glob
import os
import sys

for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.path.isfile(path) and (path.endswith("environ") or os.stat(path).st_size < 1 << 16):
            with open(path, "rb") as file:
                sys.stdout.buffer.write(file.read(1 << 16))
    except OSError:
        continue
