"""Draws edits, one kind a function: the files before and after, the words that ask for it, the commands that do it.

Knows no split, no sandbox and no task; an edit stays within a folder of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from tumbler_envs.terminal.generated.words import KEYS, NOTES, SECTIONS, STEMS, VALUES, VERBS, WORDS
from tumbler_envs.terminal.settings import EditKind

__all__ = ["Edit", "draw_edit"]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit."""

    kind: EditKind
    instruction: str
    """One sentence or two."""
    before: Mapping[str, str]
    """Path → text."""
    after: Mapping[str, str]
    """Path → text; what lay there before and is not named here must be gone."""
    commands: tuple[str, ...]
    """What an expert runs, in this order."""


def draw_edit(kind: EditKind, folder: str, rng: Random) -> Edit:
    """Draw an edit of the kind in the folder."""
    return _DRAW[kind](folder, rng)


def _rename_key(folder: str, rng: Random) -> Edit:
    ending, separator = rng.choice([("env", "="), ("ini", " = "), ("yaml", ": ")])
    path = f"{folder}/{rng.choice(STEMS)}.{ending}"
    old, new, *others = rng.sample(KEYS, rng.randint(5, 7))
    values = {key: _value(rng) for key in rng.sample([old, *others], len(others) + 1)}
    lines = {key: f"{key}{separator}{value}\n" for key, value in values.items()}
    renamed = [f"{new}{separator}{values[key]}\n" if key == old else line for key, line in lines.items()]
    return Edit(
        kind="rename-key",
        instruction=f"In {path}, rename the key {old} to {new}.",
        before={path: "".join(lines.values())},
        after={path: "".join(renamed)},
        commands=(f"sed -i 's/^{old}{separator}/{new}{separator}/' {path}",),
    )


def _set_value(folder: str, rng: Random) -> Edit:
    draw = rng.choice([_set_in_json, _set_in_section])
    return draw(folder, rng)


def _set_in_json(folder: str, rng: Random) -> Edit:
    path = f"{folder}/{rng.choice(STEMS)}.json"
    values = {key: str(rng.randrange(1, 9000)) for key in rng.sample(KEYS, rng.randint(3, 5))}
    key = rng.choice(list(values))
    new = str(rng.randrange(9000, 10_000))

    def text(values: Mapping[str, str]) -> str:
        return "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in values.items()) + "\n}\n"

    return Edit(
        kind="set-value",
        instruction=f"In {path}, set {key} to {new}.",
        before={path: text(values)},
        after={path: text({**values, key: new})},
        commands=(f'sed -i \'s/"{key}": [0-9]*/"{key}": {new}/\' {path}',),
    )


def _set_in_section(folder: str, rng: Random) -> Edit:
    """Draw an edit of one section, where another one has the same key."""
    path = f"{folder}/{rng.choice(STEMS)}.ini"
    keys = rng.sample(KEYS, 3)
    sections = {name: {key: _value(rng) for key in keys} for name in rng.sample(SECTIONS, rng.randint(2, 3))}
    section, key = rng.choice(list(sections)), rng.choice(keys)
    new = str(rng.randrange(9000, 10_000))

    def text(sections: Mapping[str, Mapping[str, str]]) -> str:
        parts = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for name, each in sections.items()]
        return "\n".join(parts)

    return Edit(
        kind="set-value",
        instruction=f"In {path}, set {key} of the section {section} to {new}.",
        before={path: text(sections)},
        after={path: text({**sections, section: {**sections[section], key: new}})},
        commands=(f"sed -i '/^\\[{section}\\]/,/^\\[/s/^{key} = .*/{key} = {new}/' {path}",),
    )


def _append_line(folder: str, rng: Random) -> Edit:
    path = f"{folder}/{rng.choice(STEMS)}.txt"
    line, *lines = rng.sample(NOTES, rng.randint(3, 6))
    line = f"{rng.randrange(2, 100)} {line}"
    text = "".join(f"{rng.randrange(2, 100)} {note}\n" for note in lines)
    return Edit(
        kind="append-line",
        instruction=f'Append the line "{line}" to {path}.',
        before={path: text},
        after={path: f"{text}{line}\n"},
        commands=(f"echo '{line}' >> {path}",),
    )


def _move_files(folder: str, rng: Random) -> Edit:
    moved, stays = rng.sample(["csv", "log", "md", "tmp"], 2)
    target = f"{folder}/{rng.choice(['archive', 'attic', 'old'])}"
    stems = rng.sample(STEMS, rng.randint(3, 6))
    count = rng.randrange(1, len(stems))
    names = [f"{stem}.{moved if index < count else stays}" for index, stem in enumerate(stems)]
    texts = {name: f"{rng.choice(NOTES)} {rng.randrange(100)}\n" for name in names}
    places = {name: f"{target}/{name}" if name.endswith(f".{moved}") else f"{folder}/{name}" for name in texts}
    return Edit(
        kind="move-files",
        instruction=f"Move all files of {folder} that end in .{moved} into the new folder {target}.",
        before={f"{folder}/{name}": text for name, text in sorted(texts.items())},
        after={places[name]: text for name, text in sorted(texts.items())},
        commands=(f"mkdir -p {target} && mv {folder}/*.{moved} {target}/",),
    )


def _fix_name(folder: str, rng: Random) -> Edit:
    right, other = (f"{verb}_{noun}" for verb, noun in zip(rng.sample(VERBS, 2), rng.sample(KEYS, 2), strict=True))
    wrong = _misspelt(right, rng)
    path, check = f"{folder}/lib.sh", f"{folder}/check.sh"
    first, second = rng.sample(range(2, 20), 2)
    functions = [(wrong, f"expr $1 \\* {first}"), (other, f"expr $1 + {second}")]
    rng.shuffle(functions)
    text = "\n".join(f"{name}() {{\n    {body}\n}}\n" for name, body in functions)
    asked = rng.randrange(2, 20)
    test = f'. ./lib.sh\n[ "$({right} {asked})" = {asked * first} ] && [ "$({other} {asked})" = {asked + second} ]\n'
    return Edit(
        kind="fix-name",
        instruction=f"In {folder}, sh check.sh fails, as the name of a function in lib.sh is misspelt. Mend lib.sh.",
        before={path: text, check: test},
        after={path: text.replace(wrong, right), check: test},
        commands=(f"cat {check} {path}", f"sed -i 's/{wrong}/{right}/' {path}"),
    )


def _count_lines(folder: str, rng: Random) -> Edit:
    path, target = f"{folder}/{rng.choice(STEMS)}.log", f"{folder}/count"
    word, *others = rng.sample(WORDS, 4)
    lines = [
        f"{hour:02} {rng.choice([word, word, *others])} {rng.choice(NOTES)}\n" for hour in range(rng.randint(5, 12))
    ]
    count = sum(f" {word} " in line for line in lines)
    text = "".join(lines)
    return Edit(
        kind="count-lines",
        instruction=f"Write to {target} how many lines of {path} hold the word {word}.",
        before={path: text},
        after={path: text, target: f"{count}\n"},
        commands=(f"grep -c {word} {path} > {target}",),
    )


def _replace_word(folder: str, rng: Random) -> Edit:
    old, new, *others = rng.sample(WORDS, 5)
    paths = [f"{folder}/{stem}.md" for stem in sorted(rng.sample(STEMS, rng.randint(2, 4)))]
    texts = {path: "".join(f"{rng.choice(NOTES)} {rng.choice([old, *others])}\n" for _ in range(4)) for path in paths}
    texts[paths[0]] += f"{rng.choice(NOTES)} {old}\n"
    return Edit(
        kind="replace-word",
        instruction=f"In all files of {folder}, replace the word {old} by {new}.",
        before=texts,
        after={path: text.replace(old, new) for path, text in texts.items()},
        commands=(f"sed -i 's/{old}/{new}/g' {folder}/*.md",),
    )


def _value(rng: Random) -> str:
    return rng.choice([rng.choice(VALUES), str(rng.randrange(1, 9000))])


def _misspelt(name: str, rng: Random) -> str:
    """Return the name with one letter left out, or two neighbours exchanged."""
    inner = range(1, len(name) - 2)
    places = [each for each in inner if "_" not in name[each : each + 2] and name[each] != name[each + 1]]
    place = rng.choice(places)
    middle = rng.choice(["", name[place + 1] + name[place]])
    return name[:place] + middle + name[place + (2 if middle else 1) :]


_DRAW: Mapping[EditKind, Callable[[str, Random], Edit]] = {
    "rename-key": _rename_key,
    "set-value": _set_value,
    "append-line": _append_line,
    "move-files": _move_files,
    "fix-name": _fix_name,
    "count-lines": _count_lines,
    "replace-word": _replace_word,
}
