"""The tools `list`, `glob` and `search`."""

import sysconfig
from pathlib import Path

import pytest

from tumbler_agents.tools.sandbox import SandboxTools
from tumbler_agents.tools.settings import SandboxToolsSettings

TREE = {
    "README.md": b"# Title\nread me\n",
    "src/main.py": b"import os\ndef main():\n    return 42\n",
    "src/pkg/deep.py": b"value = 42\n",
    "src/pkg/page.tsx": b"const value = 7;\n",
    ".hidden/notes.txt": b"42\n",
    ".git/config": b"42\n",
    "node_modules/left/index.js": b"42\n",
    "data.bin": b"42\n\0\0\n42\n",
}


@pytest.fixture
async def tree(box):
    for path, content in TREE.items():
        await box.write(path, content)
    return box


async def test_a_folder_is_listed_with_marks_and_to_a_depth(call, tree):
    await tree.exec("ln -s src link; mkfifo pipe", check=True)
    assert (await call("list")).text.split("\n") == [
        ".git/", ".hidden/", "README.md", "data.bin", "link@", "node_modules/", "pipe=", "src/",
    ]  # fmt: skip
    assert (await call("list", path="src", depth=2)).text == "main.py\npkg/\npkg/deep.py\npkg/page.tsx"
    await tree.exec("mkdir empty", check=True)
    assert (await call("list", path="/work/empty")).text == "(the folder is empty)"
    for path in ("missing", "README.md"):
        output = await call("list", path=path)
        assert output.errored
        assert f"{path} is no folder" in output.text


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"pattern": "*.md"}, ["README.md"]),
        ({"pattern": "**/*.py"}, ["src/main.py", "src/pkg/deep.py"]),
        ({"pattern": "src/**/*.{py,tsx}"}, ["src/main.py", "src/pkg/deep.py", "src/pkg/page.tsx"]),
        ({"pattern": "./src/*/d??p.p[xy]"}, ["src/pkg/deep.py"]),
        ({"pattern": "*/", "path": "src"}, ["src/pkg"]),
        ({"pattern": "**/*.txt"}, [".hidden/notes.txt"]),
        ({"pattern": "/work/src/pkg/*"}, ["src/pkg/deep.py", "src/pkg/page.tsx"]),
        ({"pattern": ".git/*"}, [".git/config"]),
        ({"pattern": "../etc/host[s]"}, ["/etc/hosts"]),
        ({"pattern": "src/main.py"}, ["src/main.py"]),
    ],
)
async def test_files_are_found_by_pattern(call, tree, arguments, found):
    assert (await call("glob", **arguments)).text.split("\n") == found


async def test_a_pattern_that_finds_nothing_says_so_and_how_to_look_deeper(call, tree):
    assert (await call("glob", pattern="*.py")).text == "No name matches. **/*.py looks in all folders."
    assert (await call("glob", pattern="**/*.rs")).text == "No name matches."
    output = await call("glob", pattern="*.py", path="missing")
    assert output.errored
    assert "missing is no folder" in output.text


async def test_lines_are_found_with_path_and_number_outside_of_binaries_and_skipped_folders(call, tree):
    output = await call("search", pattern=r"\b\d{2}\b")
    assert output.text.split("\n") == [
        ".hidden/notes.txt:1:42", "src/main.py:3:    return 42", "src/pkg/deep.py:1:value = 42",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"pattern": "VALUE", "ignore_case": True, "show": "files"}, ["src/pkg/deep.py", "src/pkg/page.tsx"]),
        ({"pattern": "value", "include": "*.tsx"}, ["src/pkg/page.tsx:1:const value = 7;"]),
        ({"pattern": "42", "include": "src/*.py"}, ["src/main.py:3:    return 42"]),
        ({"pattern": "main()", "literal": True}, ["src/main.py:2:def main():"]),
        ({"pattern": "def", "context": 1},
         ["src/main.py-1-import os", "src/main.py:2:def main():", "src/main.py-3-    return 42"]),
        ({"pattern": "42", "path": "src/pkg"}, ["src/pkg/deep.py:1:value = 42"]),
        ({"pattern": "42", "path": "/work/src/main.py"}, ["src/main.py:3:    return 42"]),
        ({"pattern": "42", "path": ".git"}, [".git/config:1:42"]),
        ({"pattern": "-main"}, ["No line matches in 6 files."]),
        ({"pattern": "(import|const) (os|value)"}, ["src/main.py:1:import os", "src/pkg/page.tsx:1:const value = 7;"]),
    ],
)  # fmt: skip
async def test_a_search_is_narrowed_and_shown_as_asked(call, tree, arguments, found):
    assert (await call("search", **arguments)).text.split("\n") == found


async def test_a_wrong_expression_and_a_missing_path_are_answered(call, tree):
    wrong = await call("search", pattern="(open")
    assert wrong.errored
    assert "the pattern cannot be searched for" in wrong.text
    assert "neither a regular file nor a folder" in (await call("search", pattern="x", path="missing")).text


async def test_a_pipe_among_the_files_does_not_hang_the_search(call, tree):
    await tree.exec("mkfifo src/pipe", check=True)
    assert (await call("search", pattern="main", path="src")).text == "src/main.py:2:def main():"


class TestBounds:
    @pytest.fixture
    def settings(self):
        return SandboxToolsSettings(results=3, skipped_folders=())

    async def test_more_than_is_shown_is_told(self, call, box):
        for n in range(6):
            await box.write(f"f{n}", b"hit\n" * 5)
        assert (await call("list")).text == "f0\nf1\nf2\n[... 3 more; narrow the search]"
        assert (await call("glob", pattern="*", limit=5)).text.endswith("f4\n[... 1 more; narrow the search]")
        assert (await call("search", pattern="hit")).text == (
            "f0:1:hit\nf0:2:hit\nf0:3:hit\n[... the first 3 are shown, there are more; narrow the search]"
        )
        assert (await call("search", pattern="hit", show="files", limit=6)).text == "f0\nf1\nf2\nf3\nf4\nf5"

    async def test_a_long_line_is_cut(self, call, box):
        await box.write("min.js", b"x" * 5000 + b"hit")
        assert (await call("search", pattern="hit")).text == f"min.js:1:{'x' * 300} [... 4703 characters left out]"

    async def test_no_folder_is_skipped_where_the_settings_name_none(self, call, box):
        await box.write("node_modules/a.js", b"hit")
        assert (await call("search", pattern="hit")).text == "node_modules/a.js:1:hit"


async def _search_with(tree, programs, **arguments):
    """Search where the only programs are some of this machine's, and scripts in place of others."""
    for name, content in programs.items():
        if content is None:
            await tree.exec(f"mkdir -p .git/bin && ln -sf /usr/bin/{name} .git/bin/{name}", check=True)
        else:
            await tree.write(f".git/bin/{name}", content.encode(), mode=0o755)
    tools = SandboxTools(_WithPath(tree, "/work/.git/bin")).tools
    return await next(tool for tool in tools if tool.spec.name == "search").call(arguments)


BASE = {"sh": None, "find": None, "xargs": None}
PASS_ON = 'exec /usr/bin/grep "$@"\n'
NO_PERL = f"#!/bin/sh\ncase $1 in -P) echo 'no support for -P' >&2; exit 2;; esac\n{PASS_ON}"
NO_NUL = f"#!/bin/sh\nfor a; do case $a in -P|--null) echo 'unknown option' >&2; exit 1;; esac; done\n{PASS_ON}"


@pytest.fixture(params=["ripgrep", "gnu", "no-perl", "no-nul", "busybox"])
async def programs(request, tree):
    """Programs of which one searches."""
    if request.param == "ripgrep":
        ripgrep = Path(sysconfig.get_path("scripts"), "rg").read_bytes()
        await tree.write(".git/bin/rg", ripgrep, mode=0o755)
        return BASE
    if request.param == "busybox":
        for name in (*BASE, "grep"):
            await tree.exec(f"mkdir -p .git/bin && ln -s $(command -v busybox) .git/bin/{name}", check=True)
        return {}
    return {**BASE, "grep": {"gnu": None, "no-perl": NO_PERL, "no-nul": NO_NUL}[request.param]}


async def test_each_kind_of_program_finds_the_same(tree, programs):
    for pattern in (r"\b\d{2}\b", r"(?:[\d]+)\s*$"):
        output = await _search_with(tree, programs, pattern=pattern, include="*.py")
        assert output.text.split("\n") == ["src/main.py:3:    return 42", "src/pkg/deep.py:1:value = 42"]
    context = await _search_with(tree, programs, pattern="def", context=1)
    assert context.text.split("\n")[0] == "src/main.py-1-import os"
    literal = await _search_with(tree, programs, pattern="main()", literal=True)
    assert literal.text == "src/main.py:2:def main():"
    any_case = await _search_with(tree, programs, pattern="TITLE|VALUE", ignore_case=True, show="files")
    assert any_case.text == "README.md\nsrc/pkg/deep.py\nsrc/pkg/page.tsx"
    wrong = await _search_with(tree, programs, pattern="(open")
    assert wrong.errored
    assert "cannot be searched for" in wrong.text
    hidden = await _search_with(tree, programs, pattern="^42$", path=".hidden")
    assert hidden.text == ".hidden/notes.txt:1:42"


async def test_a_sandbox_without_grep_is_answered(tree):
    output = await _search_with(tree, BASE, pattern="x")
    assert output.errored
    assert "neither rg nor grep is there" in output.text


class _WithPath:
    """A sandbox whose commands see other programs."""

    def __init__(self, sandbox, path):
        self._sandbox = sandbox
        self._path = path

    def __getattr__(self, name):
        return getattr(self._sandbox, name)

    async def exec(self, command, **options):
        return await self._sandbox.exec(command, **{**options, "env": {"PATH": self._path}})
