"""The closed vocabulary of `trail`: names of files, labels and verbs of ways, words of sums.

No name is the prefix of another or a usual command, so that a word-level tokenizer can give each one
token and a shell never takes one for a program.
"""

__all__ = ["COMPUTE", "LABELS", "NAMES", "OPERATORS", "OUTPUT", "READ", "START", "UNPACK", "VALUE"]

_NAMES = """
acorn amber anchor apple arrow aspen badge bamboo basil beach birch brick button cabin canyon cedar cherry cliff
cloud comet copper creek desert dune eagle ember engine fern field flint forest fossil garden ginger glacier
grape harbor hazel heron honey island ivory jasmine juniper kettle lagoon lantern lemon lotus lunar maple marble
meadow moss nectar nutmeg oasis ocean olive orchid otter pebble pepper petal pigeon planet pocket prairie quartz
rabbit ribbon river rocket saddle saffron silver spruce summit sunset thistle tiger tulip tundra turtle umber
velvet violet walnut willow winter zinc
"""

NAMES = tuple(_NAMES.split())
"""What files and archives are called. Files that are reached by a sum are called by its result."""

START, OUTPUT = "start", "answer"
"""The file to read first, and the one that the answer belongs in."""

_LABELS = """
black blue brown crimson cyan green indigo khaki lilac magenta orange pink purple teal white yellow
"""

LABELS = tuple(_LABELS.split())
"""What the ways on are called."""

VALUE = "value"
"""The verb of the line that a trail ends in."""

READ, UNPACK, COMPUTE = "read", "unpack", "compute"
"""The verb of a way on. It comes before what it is done to, so that a small model need not look ahead to choose
its command."""

OPERATORS = {"plus": "+", "minus": "-"}
"""How files write a sum → how `expr` wants it."""
