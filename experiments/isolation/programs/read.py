"""Print each file named."""

import sys

for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            sys.stdout.buffer.write(file.read(1 << 16))
    except OSError as error:
        print(error, file=sys.stderr)
