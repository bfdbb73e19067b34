"""Plant a link: link symbolic|hard TARGET PATH"""

import os
import sys

kind, target, path = sys.argv[1:]
if kind == "symbolic":
    os.symlink(target, path)
else:
    os.link(target, path)
    print(open(path).read())
