"""The closed vocabulary of generated tasks; no name is the prefix of another of its list."""

__all__ = ["FOLDERS", "KEYS", "NOTES", "SECTIONS", "STEMS", "VALUES", "VERBS", "WORDS"]

_FOLDERS = """
account backup billing catalog delivery gateway harvest invoice journal ledger mailbox market orders payroll
planner portal profile radar search shipping stockroom studio support tracker treasury vault warehouse workshop
"""

_STEMS = """
agenda banner buffer common default engine general handler legacy local main proxy server
"""

_KEYS = """
address cache debug depth host interval level limit mode owner port region retries timeout theme
"""

_VALUES = """
alpha amber auto basic bravo coral delta dusk fast hybrid indigo lunar mint nova olive quiet
"""

_SECTIONS = """
client database logging metrics network storage
"""

_NOTES = """
bread candles coffee dates flour honey lemons lentils olives onions paper pepper rice salt tea
"""

_WORDS = """
blocked closed denied expired failed ignored missing opened paused pending queued ready sent
"""

_VERBS = """
compare convert double measure reduce reverse select square triple widen
"""

FOLDERS = tuple(_FOLDERS.split())
"""What folders are called; each edit has one of its own."""

STEMS = tuple(_STEMS.split())
"""What files are called, before their ending."""

KEYS = tuple(_KEYS.split())
"""What settings are called."""

VALUES = tuple(_VALUES.split())
"""What settings are set to, besides numbers."""

SECTIONS = tuple(_SECTIONS.split())
"""What groups of settings are called."""

NOTES = tuple(_NOTES.split())
"""What lists hold."""

WORDS = tuple(_WORDS.split())
"""What logs and texts say."""

VERBS = tuple(_VERBS.split())
"""What functions do."""
