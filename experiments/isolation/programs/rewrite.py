"""Write a file's own content back to it, and say so if the kernel took it."""

import sys

for path in sys.argv[1:]:
    with open(path) as file:
        content = file.read()
    with open(path, "w") as file:
        file.write(content)
    print("REWRITTEN", path)
