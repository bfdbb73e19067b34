"""The closed vocabulary of `trail`: names of files, labels and verbs of ways, keys of forks, words of sums.

No name is the prefix of another or a usual command, so that a word-level tokenizer can give each one
token and a shell never takes one for a program.
"""

__all__ = [
    "CHOOSE",
    "COMPUTE",
    "KEYS",
    "LABELS",
    "NAMES",
    "OPERATORS",
    "OUTPUT",
    "READ",
    "START",
    "UNPACK",
    "VALUE",
]

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

_KEYS = """
beaver bison camel cobra coyote dolphin donkey egret ferret gazelle gibbon hamster hornet hyena iguana jackal
jaguar koala lemur leopard lizard lobster magpie mantis marmot meerkat moose muskrat narwhal ocelot osprey ostrich
oyster panther pelican piranha possum puffin quail raccoon raven rooster seagull sparrow stork swallow tapir toucan
trout turkey vulture wallaby walrus warbler weasel wombat zebra lynx stoat vole sloth elk ibex llama
"""

KEYS = tuple(_KEYS.split())
"""What the ways at a fork are called."""

VALUE = "value"
"""The verb of the line that a trail ends in."""

READ, UNPACK, COMPUTE, CHOOSE = "read", "unpack", "compute", "choose"
"""The verb of a way on. It comes before what it is done to, so that a small model need not look ahead to choose
its command."""

OPERATORS = {"plus": "+", "minus": "-"}
"""How files write a sum → how `expr` wants it."""
