"""Convert a checkout to one import name: every `alignment.x` of code, strings and pages becomes `samespace.alignment.x`.

    python one_name.py REPO [--dry-run] [--code-only] [--ruff PATH]

Standard library only, Python 3.11 or newer; it edits the files of `git ls-files` in REPO. Running it twice changes nothing the
second time. What it does, in order:

1. Python files: import statements by the syntax tree, `import a.b` becomes `from samespace.a import b as a_b` and its uses
   follow; texts and comments by the rules for text below; lists that mix bare folders and dotted modules;
   the arguments of `import_module`, `files`, `find_spec`.
2. Text (string literals, comments, Markdown, notebooks, YAML, Makefile): import statements in text, dotted names that name a
   module of the repository or a public name of one, `-m pipeline.cli`, `module 'stores'`.
3. The folder `src/samespace/` with its links, pyproject.toml, and the few places in PATCHES (see `layout`); sorts and formats
   with ruff, breaks docstrings and comments that have become too long.

Everything changed inside a literal or a page is listed in the report: read it once.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

NAME = "samespace"
FOLDERS = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")
SIX = "|".join(FOLDERS)
PAGES = (".md", ".ipynb", ".yml", ".yaml", ".toml", ".sh", ".cfg", ".ini", ".txt")
LEFT = ("CHANGELOG.md", "docs/log.md")
"""History is left as it was written."""
LOADERS = {"import_module", "files", "find_spec", "reload", "as_file"}
"""Functions whose first argument is the name of a module."""

Edit = tuple[int, int, str]


class Names:
    """The modules of a repository and the public names of its packages."""

    def __init__(self, root: Path) -> None:
        self.modules: set[str] = set()
        self.public: dict[str, set[str]] = {}
        for folder in FOLDERS:
            for path in (root / folder).rglob("*.py"):
                parts = path.relative_to(root).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                self.modules.add(name)
                tree = ast.parse(path.read_text(encoding="utf-8"))
                self.public[name] = {one for node in tree.body for one in _bound(node)} | _exported(tree)

    def names(self, dotted: str) -> bool:
        """True where `dotted` is a module below a folder, or a name in a module: of the folder itself a public one."""
        parts = dotted.split(".")
        for size in range(len(parts), 0, -1):
            module = ".".join(parts[:size])
            if module in self.modules:
                rest = parts[size:]
                if size == 1 and not rest:
                    return False
                return not rest or rest[0] in self.public[module] or (rest[0].startswith("__") and len(rest) == 1)
        return False

    def prefix(self, dotted: str) -> bool:
        """True where `dotted` is a module or package, a bare folder included."""
        return dotted in self.modules


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.ImportFrom | ast.Import):
        return {alias.asname or alias.name for alias in node.names}
    return set()


def _exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return {one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)}
    return set()


# --- text ---------------------------------------------------------------------------------------------------------

START = r"""(?:^|(?<=["';>(])|(?<=\\n)|(?<=\n)|(?<=-c ))"""
FROM = re.compile(rf"(?<![\w.])(from\s+)((?:{SIX})(?:\.\w+)*)(?=\s+import\b)")
IMPORTS = re.compile(rf"{START}([ \t]*)import[ ]+([\w., ]*\b(?:{SIX})\b[\w., ]*)", re.M)
BOUND = re.compile(rf"from {NAME} import ([\w, ]+)")
DOTTED = re.compile(rf"(?<![\w./\-:@#$])((?:{SIX})(?:\.\w+)+)(?![\w/\-])")
COMMAND = re.compile(r"(-m[\"']?[,\s]+[\"']?)pipeline\.cli\b")
MESSAGE = re.compile(rf"(\bmodule ['\"`])((?:{SIX})(?:\.\w+)*)(?=['\"`])")
AUTODOC = re.compile(rf"^(:::\s+)((?:{SIX})(?:\.\w+)*)", re.M)


class Text:
    """The rules for text; remembers what it changed."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.changed: list[tuple[str, str, str]] = []
        self.where = ""
        self.bound: set[str] = set()

    def __call__(self, text: str) -> str:
        """The text with every module of ours under the one name."""
        self.bound = {folder for listed in BOUND.findall(text) for folder in re.split(r"[,\s]+", listed)}
        text = COMMAND.sub(rf"\1{NAME}", text)
        text = FROM.sub(lambda m: f"{m[1]}{NAME}.{m[2]}" if self.names.prefix(m[2]) else m[0], text)
        text = MESSAGE.sub(lambda m: f"{m[1]}{NAME}.{m[2]}" if self.names.prefix(m[2]) else m[0], text)
        text = AUTODOC.sub(rf"\1{NAME}.\2", text)
        text = IMPORTS.sub(self._imports, text)
        return DOTTED.sub(self._dotted, text)

    def _imports(self, match: re.Match[str]) -> str:
        listed = [word.strip() for word in match[2].split(",")]
        ours = [word for word in listed if word.split(".")[0].split(" ")[0] in FOLDERS]
        if not all(re.fullmatch(r"[\w.]+( as \w+)?", word) for word in listed):
            return match[0]  # prose
        if any(not self.names.prefix(word.split(" ")[0]) for word in ours):
            return match[0]
        if len(listed) == 1 and "." not in listed[0]:
            new = f"from {NAME} import {listed[0]}"
            self.bound.add(listed[0])  # what follows in this text says `alignment.fit`, and means this name
        else:
            listed = [word for word in listed if not any(other.startswith(f"{word}.") for other in ours)]  # implied
            new = "import " + ", ".join(f"{NAME}.{word}" if word in ours else word for word in listed)
        self.changed.append((self.where, match[0].strip(), new))
        return match[1] + new

    def _dotted(self, match: re.Match[str]) -> str:
        if match[1].split(".")[0] in self.bound or not self.names.names(match[1]):
            return match[0]
        self.changed.append((self.where, match[1], f"{NAME}.{match[1]}"))
        return f"{NAME}.{match[1]}"


# --- Python -------------------------------------------------------------------------------------------------------


class Source:
    """One Python file: the offsets of its lines, and the edits to make."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.lines = text.splitlines(keepends=True)
        self.edits: list[Edit] = []

    def offset(self, line: int, column: int) -> int:
        """The place in the text of a node: columns of the tree count bytes."""
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt | ast.alias) -> tuple[int, int]:
        """First and last place of a node."""
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno or 0, node.end_col_offset or 0)

    def result(self) -> str:
        """The text with all edits made, the outermost of those that overlap."""
        out, at = [], 0
        for start, end, new in sorted(self.edits, key=lambda edit: (edit[0], -edit[1])):
            if start < at:
                continue
            out += [self.text[at:start], new]
            at = end
        return "".join([*out, self.text[at:]])


def convert_python(text: str, rules: Text) -> str:
    """A Python file under the one name."""
    source = Source(text)
    renamed = _imports(source)
    for node in ast.walk(source.tree):
        _node(source, node, renamed, rules)
    _bind(source, renamed)
    taken = {start for start, _, _ in source.edits}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE"):
            (row, column), (last, end) = token.start, token.end
            start, stop = source.starts[row - 1] + column, source.starts[last - 1] + end
            if start not in taken and (new := rules(text[start:stop])) != text[start:stop]:
                source.edits.append((start, stop, new))
    return source.result()


def _imports(source: Source) -> dict[str, str]:
    """Rewrite import statements; the dotted names they bound, with the name of each from now on."""
    renamed: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in FOLDERS:
            start, end = source.span(node)
            old = source.text[start:end]
            source.edits.append((start, end, re.sub(r"^from\s+", f"from {NAME}.", old)))
        elif isinstance(node, ast.Import) and any(one.name.split(".")[0] in FOLDERS for one in node.names):
            start, end = source.span(node)
            lines = [_import(one, renamed) for one in node.names]
            indent = "\n" + " " * node.col_offset
            source.edits.append((start, end, indent.join(lines)))
    return renamed


def _bind(source: Source, renamed: dict[str, str]) -> None:
    """Import the folder too where `import a.b` bound it and `a` is used by itself."""
    loaded = {id(node): node for node in ast.walk(source.tree) if isinstance(node, ast.Name)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and _dotted(node) in renamed:
            inner = node.value
            while isinstance(inner, ast.Attribute):
                inner = inner.value
            loaded.pop(id(inner), None)
    used = {node.id for node in loaded.values() if isinstance(node.ctx, ast.Load)}
    bound = {one.asname or one.name for node in ast.walk(source.tree) if isinstance(node, ast.Import) for one in node.names}
    for dotted in renamed:
        folder = dotted.split(".")[0]
        if folder in used - bound:
            first = next(index for index, (_, _, new) in enumerate(source.edits) if f"from {NAME}.{folder}" in new)
            start, end, new = source.edits[first]
            source.edits[first] = (start, end, f"from {NAME} import {folder}\n{new}")
            bound.add(folder)


def _import(alias: ast.alias, renamed: dict[str, str]) -> str:
    folder, _, rest = alias.name.partition(".")
    if folder not in FOLDERS:
        return f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
    if not rest:
        return f"from {NAME} import {folder}" + (f" as {alias.asname}" if alias.asname else "")
    parent, _, module = alias.name.rpartition(".")
    name = alias.asname or f"{folder}_{module}"
    if not alias.asname:
        renamed[alias.name] = name
    return f"from {NAME}.{parent} import {module}" + (f" as {name}" if name != module else "")


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _node(source: Source, node: ast.AST, renamed: dict[str, str], rules: Text) -> None:
    if isinstance(node, ast.Attribute) and _dotted(node) in renamed:
        source.edits.append((*source.span(node), renamed[_dotted(node)]))
    elif isinstance(node, ast.Call) and node.args and _called(node) in LOADERS:
        _argument(source, node.args[0], rules)
    elif isinstance(node, ast.List | ast.Tuple) and _modules(node, rules.names):
        for one in node.elts:
            _argument(source, one, rules)
    elif isinstance(node, ast.List | ast.Tuple):
        for flag, module in zip(node.elts, node.elts[1:], strict=False):
            if _value(flag) == "-m" and _value(module) == "pipeline.cli":
                source.edits.append((*source.span(module), f'"{NAME}"'))
    elif isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        first = str(node.values[0].value)
        folder, _, rest = first.removesuffix(".").partition(".")
        if first.endswith(".") and folder in FOLDERS and rest and rules.names.prefix(first[:-1]):
            _argument(source, node, rules)


def _value(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _modules(node: ast.List | ast.Tuple, names: Names) -> bool:
    """True for a list of modules, one of them below a folder: bare folders alone are folders of the repository."""
    values = [one.value for one in node.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return (
        len(values) == len(node.elts)
        and bool(values)
        and all(names.prefix(one) for one in values)
        and any("." in one for one in values)
    )


def _argument(source: Source, node: ast.expr, rules: Text) -> None:
    """Put the name before a literal that starts with one of the folders."""
    start, end = source.span(node)
    old = source.text[start:end]
    new = re.sub(rf"^(f?[\"'])(?=(?:{SIX})\b)", rf"\1{NAME}.", old)
    if new != old:
        source.edits.append((start, end, new))
        rules.changed.append((rules.where, old, new))


# --- the repository -----------------------------------------------------------------------------------------------


FENCE = re.compile(r"^([ ]*)```.*?^\1```", re.M | re.S)


def convert_page(text: str, rules: Text) -> str:
    """A Markdown page: each block of code is a text of its own, for what it imports is bound there only."""
    out, at = [], 0
    for block in FENCE.finditer(text):
        out += [rules(text[at : block.start()]), rules(block[0])]
        at = block.end()
    return "".join([*out, rules(text[at:])])


def tracked(root: Path) -> list[Path]:
    """Files that git knows or would add, no links."""
    words = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    paths = [root / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def convert(root: Path, write: bool) -> list[tuple[str, str, str]]:
    """Convert every file; what was changed in literals, comments and pages."""
    names = Names(root)
    rules = Text(names)
    for path in tracked(root):
        name = path.relative_to(root).as_posix()
        if name in (*LEFT, "pyproject.toml", "tests/test_one_import_name.py") or name.startswith(f"src/{NAME}/"):
            continue
        code = path.suffix == ".py"
        if not code and path.suffix not in PAGES and path.name not in ("Makefile", "run"):
            continue
        rules.where = name
        old = path.read_text(encoding="utf-8")
        new = convert_python(old, rules) if code else convert_page(old, rules) if path.suffix == ".md" else rules(old)
        if new != old and write:
            path.write_text(new, encoding="utf-8")
    return rules.changed


# --- lines that have become too long ------------------------------------------------------------------------------

WIDTH = 120
PROSE = re.compile(r"^(\s*)((?:#:? )?)(.*)$")


def wrap(root: Path) -> None:
    """Break lines of docstrings and comments in Python files that the longer names made too long."""
    for path in tracked(root):
        if path.suffix == ".py":
            old = path.read_text(encoding="utf-8")
            if any(len(line) > WIDTH for line in old.splitlines()):
                path.write_text(_wrapped(old), encoding="utf-8")


def _wrapped(text: str) -> str:
    lines, prose = text.splitlines(), _prose(text)
    out: list[str] = []
    carried = ""
    for number, line in enumerate(lines, 1):
        indent, mark, words = PROSE.match(line).groups()  # type: ignore[union-attr]
        if carried and number in prose and words and not words.startswith(('"""', "- ", "* ", "|")):
            line = f"{indent}{mark}{carried} {words}"
        elif carried:
            out.append(f"{before}{carried}")
        carried = ""
        if len(line) > WIDTH and number in prose:
            before = indent + mark
            single = line.strip().startswith(('"""', 'r"""')) and line.rstrip().endswith('"""')
            body = line.rstrip().removesuffix('"""') if single else line
            cut = body.rfind(" ", 0, WIDTH + 1)
            out.append(body[:cut].rstrip())
            if single:
                out += [f"{indent}{body[cut + 1 :]}", f'{indent}"""']
            else:
                carried = body[cut + 1 :]
        else:
            out.append(line)
    return "\n".join([*out, *([before + carried] if carried else [])]) + "\n"


def _prose(text: str) -> set[int]:
    """The numbers of the lines of docstrings and of comments that have a line of their own."""
    rows: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            rows |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return rows | {number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("#")}


# --- layout -------------------------------------------------------------------------------------------------------

INIT = """\"\"\"Nightly foundation-model embeddings whose space keeps its meaning: encode, align, publish, retrieve.

The one import name of the project. Its packages are the folders of the repository, linked here: `samespace.stores` is
`stores/` (docs/adr/0005-one-import-name.md). Importing this module imports nothing else.
\"\"\"

import os

__version__ = "0.1.0"

if not os.path.isdir(os.path.join(os.path.dirname(__file__), "stores")):  # noqa: PTH112, PTH118, PTH120 - pathlib is slow
    raise ImportError(
        "samespace: this copy has lost its symbolic links (src/samespace/stores and others), as zip archives of the "
        "repository do; install a wheel, or from a git clone or a tar archive"
    )
"""
MAIN = """\"\"\"`python -m samespace` is the command `samespace`.\"\"\"

import sys

from samespace.pipeline.cli import command

if __name__ == "__main__":
    sys.exit(command())
"""
BUILD = """[tool.setuptools]
package-dir = { "" = "src" }

[tool.setuptools.packages.find]
where = ["src"]  # links to the folders, which setuptools follows

[tool.setuptools.dynamic]
version = { attr = "samespace.__version__" }

[tool.setuptools.package-data]
"""
BANNED = """
[tool.ruff.lint.flake8-tidy-imports.banned-api]
# The folders are importable by their bare names where the root is on the path: a second copy of every class.
""" + "".join(f'"{folder}".msg = "import {NAME}.{folder}"\n' for folder in FOLDERS)


def layout(root: Path) -> list[str]:
    """Make `src/samespace/` and rewrite the settings; what could not be rewritten."""
    place = root / "src" / NAME
    place.mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__.py": INIT, "__main__.py": MAIN, "py.typed": ""}.items():
        if not (place / name).exists():
            (place / name).write_text(text, encoding="utf-8")
    for folder in FOLDERS:
        if not (place / folder).is_symlink():
            (place / folder).symlink_to(f"../../{folder}", target_is_directory=True)
    return [*_pyproject(root / "pyproject.toml"), *_patches(root)]


def _pyproject(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if "src" in re.findall(r'^where = \["(\w+)"\]', text, re.M):
        return []
    text = re.sub(r'^version = "[\d.]+"\n', 'dynamic = ["version"]\n', text, count=1, flags=re.M)
    text = re.sub(r'"pipeline\.cli:', f'"{NAME}.pipeline.cli:', text)
    text = re.sub(r"\[tool\.setuptools\.packages\.find\]\n.*?\[tool\.setuptools\.package-data\]\n", lambda _: BUILD, text, flags=re.S)
    head, data, rest = re.split(r"(?<=\[tool\.setuptools\.package-data\]\n)(.*?)(?=^\[)", text, maxsplit=1, flags=re.S | re.M)
    data = re.sub(rf'^"?({SIX})((?:\.\w+)*)"? =', rf'"{NAME}.\1\2" =', data, flags=re.M)
    text = head + data + rest
    text = re.sub(r'^packages = \["alignment".*\]$', f'mypy_path = "src"\npackages = ["{NAME}"]', text, flags=re.M)
    text = text.replace('pythonpath = ["."]', 'pythonpath = ["src", "."]  # "." for `tests.` alone')
    text = text.replace('"D1", ', '"D1", "TID251", ', 1)
    text = text.replace("\n[tool.ruff.lint.per-file-ignores]", BANNED + "\n[tool.ruff.lint.per-file-ignores]", 1)
    before, mark, linter = text.partition("[tool.importlinter]")
    linter = re.sub(r"^root_packages = .*$", f'root_package = "{NAME}"', linter, flags=re.M)
    lines = []
    for line in linter.splitlines(keepends=True):
        quoted = not line.startswith(("name =", "#"))
        lines.append(re.sub(rf'(?<=["| ])({SIX})(?=["|. ])(?!/)', rf"{NAME}.\1", line) if quoted else line)
    path.write_text(before + mark + _folded("".join(lines)), encoding="utf-8")
    lacking = [word for word in (NAME + ".pipeline.cli:", 'mypy_path = "src"', "root_package =", "TID251") if word not in path.read_text()]
    return [f"pyproject.toml: {word!r} could not be set" for word in lacking]


def _folded(text: str) -> str:
    """TOML lists of more than 120 columns, or of several lines, one item a line where they are long."""

    def fold(match: re.Match[str]) -> str:
        items = re.findall(r'"[^"]*"', match[2])
        line = f"{match[1]} = [{', '.join(items)}]"
        return line if len(line) <= WIDTH else f"{match[1]} = [\n" + "".join(f"    {item},\n" for item in items) + "]"

    return re.sub(r"^(\w+) = \[((?:[^\]#])*)\]", fold, text, flags=re.M)


Patch = tuple[str, str, str, str]
PATCHES: list[Patch] = [
    # file, what says that it is done, what to replace, the new text
    ("mkdocs.yml", "paths: [src]", "paths: [.]", "paths: [src]"),
    ("docs/hooks/generated.py", f"from {NAME}.pipeline import cli", "", ""),
    (
        "pipeline/cli.py", '"--version"',
        '    verbs = parser.add_subparsers(',
        '    parser.add_argument("--version", action="version", version=f"samespace {__version__}")\n    verbs = parser.add_subparsers(',
    ),
    (
        "pipeline/cli.py", f"from {NAME} import __version__",
        f"from {NAME}.stores.errors import", f"from {NAME} import __version__\nfrom {NAME}.stores.errors import",
    ),
    ("docs/scaling.md", "--working-dir src", "--working-dir . -- samespace nightly", "--working-dir src -- python -m samespace nightly"),
    ("tests/pipeline/test_wheel.py", '(*PACKAGES, "src")', "for name in PACKAGES:\n        shutil.copytree(ROOT / name, source / name)",
     'for name in (*PACKAGES, "src"):\n        shutil.copytree(ROOT / name, source / name, symlinks=True)'),
    ("tests/pipeline/test_wheel.py", 'assert not (packages / package).exists()', "for package in PACKAGES:\n        assert (packages / package /",
     'for package in PACKAGES:\n        assert not (packages / package).exists()\n        assert (packages / "samespace" / package /'),
    ("tests/pipeline/test_wheel.py", '"samespace" / "retrieval"', 'packages / "retrieval"', 'packages / "samespace" / "retrieval"'),
    ("tests/pipeline/test_wheel.py", '"samespace" / "validation"', 'packages / "validation"', 'packages / "samespace" / "validation"'),
    (
        "tests/pipeline/test_wheel.py", "a package of the user's",
        '    """Runs a program of that environment in an empty folder."""\n',
        '    """Runs a program of that environment in a folder with packages of the user\'s that are named as folders of ours."""\n'
        '    for name in ("pipeline", "retrieval", "stores", "validation"):  # each a package of the user\'s\n'
        '        (tmp_path / name).mkdir()\n'
        '        (tmp_path / name / "__init__.py").write_text(f"OWN = {name!r}\\n", encoding="utf-8")\n',
    ),
    ("tests/pipeline/test_submitted.py", 'ROOT / "src" / "samespace"',
     'for package in PACKAGES:\n        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))',
     'shutil.copytree(ROOT / "src" / "samespace", tmp_path / "code" / "samespace", ignore=shutil.ignore_patterns("__pycache__"))'),
]


FILES = Path(__file__).resolve().parent


def _new_files(root: Path) -> None:
    """The test of the layout, and the decision under the next free number."""
    target = root / "tests" / "test_one_import_name.py"
    target.write_text((FILES / "one_name_files" / target.name).read_text(encoding="utf-8"), encoding="utf-8")
    decisions = root / "docs" / "adr"
    there = sorted(path.name for path in decisions.glob("*.md"))
    name = next((one for one in there if one.endswith("one-import-name.md")), f"{int(there[-1][:4]) + 1:04}-one-import-name.md")
    (decisions / name).write_text((FILES / "adr-one-import-name.md").read_text(encoding="utf-8"), encoding="utf-8")
    marker = root / "src" / NAME / "__init__.py"
    marker.write_text(re.sub(r"docs/adr/\d+-one-import", f"docs/adr/{name[:4]}-one-import", marker.read_text(encoding="utf-8")))
    site = root / "mkdocs.yml"
    text = site.read_text(encoding="utf-8")
    if name not in text:
        last = [line for line in text.splitlines(keepends=True) if "- adr/" in line][-1]
        site.write_text(text.replace(last, last + re.sub(r"adr/.*", f"adr/{name}", last)), encoding="utf-8")
    wheel = root / "tests" / "pipeline" / "test_wheel.py"
    if wheel.exists() and "OWN_ENCODER" not in (text := wheel.read_text(encoding="utf-8")):
        more = (FILES / "one_name_files" / "test_wheel_side_by_side.py").read_text(encoding="utf-8")
        wheel.write_text(text.rstrip("\n") + "\n" + more, encoding="utf-8")


def _patches(root: Path) -> list[str]:
    _new_files(root)
    lacking = []
    for name, done, old, new in PATCHES:
        path = root / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if done in text:
            continue
        if not old or old not in text:
            lacking.append(f"{name}: by hand: {new or done!r}")
            continue
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return lacking


def main() -> None:
    """Convert a checkout; what was changed in text on stdout, what is left to do by hand on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be changed in literals and pages")
    parser.add_argument("--code-only", action="store_true", help="imports and names, no layout (for trials of others)")
    parser.add_argument("--ruff", default="", help="ruff to sort imports and format with (default: REPO/.venv/bin/ruff)")
    args = parser.parse_args()
    root = args.repo.resolve()
    for where, old, new in convert(root, not args.dry_run):
        if old != new:
            print(f"{where}: {old} -> {new}")
    if args.dry_run:
        return
    left = [] if args.code_only else layout(root)
    ruff = args.ruff or str(root / ".venv" / "bin" / "ruff")
    subprocess.run([ruff, "check", "-q", "--select", "I", "--fix", str(root)], check=False)
    subprocess.run([ruff, "format", "-q", str(root)], check=True)
    wrap(root)
    subprocess.run([ruff, "format", "-q", str(root)], check=True)
    for one in left:
        print(f"BY HAND: {one}", file=sys.stderr)


if __name__ == "__main__":
    main()
