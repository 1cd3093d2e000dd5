"""What the files of the project look like: names, sizes, and nothing in them that belongs to one machine."""

import ast
import os
import re
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "training", "evaluation", "steerwise")
MIB = 1 << 20

LONG = 400  # lines
ANSWER_LENGTHS = {"answer_tokens", "max_tokens", "max_new_tokens", "max_completion_length"}
HOMELESS = re.compile(r"^(utils?|helpers?|commons?|managers?|misc|shared)$|_(utils?|helpers?|manager)$")

# Written so that none of them matches the line it stands on.
OF_ONE_MACHINE = {
    "a home directory": re.compile(r"(?<![\w.~])/(?:root|home|Users)/\w|[A-Z]:\\{1,2}Users"),
    "a checkout's place": re.compile(r"(?<![\w./-])/wor[k]/|(?<![\w./-])/op[t]/\w"),
    "a package index": re.compile(
        r"https?://[^\s\"'`]*(?:py[p]i|pythonhoste[d]|/simpl[e]\b|/wh[l]\b|artifactor[y])"
    ),
    "a file URL": re.compile(r"file:/{2,3}\w"),
}


@cache
def files() -> list[Path]:
    """What git tracks or would track, found without git, which a copy of the project may lack."""
    patterns = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split() if line[0] != "#"] + [
        ".git"
    ]
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if not ignored(Path(folder), name, patterns)]
        found += [Path(folder, name) for name in names if not ignored(Path(folder), name, patterns)]
    assert len(found) > 20, "hardly any file was found: the tests below would see nothing"
    return sorted(found)


def ignored(folder: Path, name: str, patterns: list[str]) -> bool:
    """A pattern with a leading slash holds at the root only."""
    at_root = folder == ROOT
    return any(fnmatch(name, p) or (at_root and fnmatch(f"/{name}", p)) for p in patterns)


def modules(*folders: str) -> list[Path]:
    return [p for p in files() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in (folders or PACKAGES)]


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_no_module_is_a_home_for_the_homeless() -> None:
    parts = {path: path.relative_to(ROOT).with_suffix("").parts for path in modules(*PACKAGES, "tests")}
    assert (
        named([path for path, names in parts.items() if any(HOMELESS.search(name) for name in names)]) == []
    )


def test_package_markers_are_empty() -> None:
    assert named([path for path in modules() if path.name == "__init__.py" and path.read_bytes()]) == []


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in modules()}
    assert named([folder for folder in folders if not (folder / "__init__.py").exists()]) == []


def test_a_module_that_is_longer_than_a_reader_can_hold_is_named() -> None:
    """A habit and no limit: no module is cut only to stay under a number."""
    lengths = {str(p.relative_to(ROOT)): p.read_text().count("\n") for p in modules(*PACKAGES, "tests")}
    assert len(lengths) > 20
    long = {name: lines for name, lines in lengths.items() if lines > LONG}
    if long:
        warnings.warn(f"longer than {LONG} lines: {long}", stacklevel=1)


def test_the_contract_opens_no_file_and_prints_nothing() -> None:
    """Imports are the linter's matter; `open` and `print` need none."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules("evaluation")
        if "contract" in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id in {"open", "print", "input", "__import__"}
    ]
    assert found == []


def test_how_long_an_answer_may_be_is_written_once() -> None:
    """Where a number of tokens is given at all, it is the contract's, or the one token of a forced read."""
    found = []
    for path in modules():
        text = path.read_text()
        if not any(name in text.lower() for name in ANSWER_LENGTHS):
            continue  # to parse everything takes seconds
        for node in ast.walk(ast.parse(text)):
            for name, value in _named_values(node):
                number = value.value if isinstance(value, ast.Constant) else None
                if name in ANSWER_LENGTHS and isinstance(number, int) and number != 1:
                    found.append(f"{path.relative_to(ROOT)}:{value.lineno}")
    assert [place for place in found if not place.startswith("evaluation/contract/budget.py")] == []
    assert found, "not even the contract's own number was found"


def test_a_class_name_means_one_thing() -> None:
    """Who reads a name, or looks for it, finds one class. The client's models are called as the API calls them."""
    homes: dict[str, list[str]] = {}
    for path in modules("app", "training", "evaluation"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(homes) > 300
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def _named_values(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Assignments, keyword arguments, defaults of parameters and entries of dictionaries."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name.lower().lstrip("_"), value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name.lower().lstrip("_"), value
        case ast.keyword(arg=str(name), value=value):
            yield name, value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value), value
        case ast.arguments():
            positional = [*node.posonlyargs, *node.args][-len(node.defaults) or None :]
            given = [
                *zip(positional, node.defaults, strict=False),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            ]
            yield from ((argument.arg, value) for argument, value in given if value is not None)


def test_how_an_answer_is_marked_is_written_once() -> None:
    """Who looks for the mark by hand reads answers in another way than serving does."""
    found = []
    for path in (*modules("app", "training"), ROOT / "evaluation/contract/render.py"):
        text = path.read_text()
        if "Answer:" not in text:
            continue  # to take every module apart is seconds
        tree = ast.parse(text)
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and "Answer:" in str(node.value) and id(node) not in prose
        ]
    assert [place for place in found if not place.startswith("evaluation/contract/")] == []
    assert found, "not even the contract's own mark was found"


def test_nothing_names_a_place_on_one_machine() -> None:
    found = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if not any(pattern.search(text) for pattern in OF_ONE_MACHINE.values()):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found += [
                f"{path.relative_to(ROOT)}:{number}: {what}"
                for what, pattern in OF_ONE_MACHINE.items()
                if pattern.search(line)
            ]
    assert found == []


def test_the_patterns_for_places_on_one_machine_find_such_places() -> None:
    slash = "/"
    examples = {
        "a home directory": f"open('{slash}root{slash}notes.txt')",
        "a checkout's place": f"cd {slash}work{slash}main",
        "a package index": f"--index-url https:{slash}{slash}mirror.example{slash}simple",
        "a file URL": f"file:{slash}{slash}{slash}etc",
    }
    assert {what for what, text in examples.items() if not OF_ONE_MACHINE[what].search(text)} == set()


def test_a_checkout_stays_small() -> None:
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in files()}
    assert {name: size for name, size in sizes.items() if size > 16 * MIB} == {}
    weights = {name: size for name, size in sizes.items() if name.endswith(".safetensors")}
    assert sum(weights.values()) <= 48 * MIB
    assert sum(sizes.values()) - sum(weights.values()) <= 20 * MIB


def test_weights_are_safetensors() -> None:
    pickled = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy"}
    assert named([path for path in files() if path.suffix in pickled]) == []


def test_there_is_one_way_to_lock_a_file_and_one_to_write_it_whole() -> None:
    """What a second one forgets is what a power cut or a killed process finds."""
    homes = {
        "fcntl.flock": {"app/infra/locks.py"},
        "os.fsync": {"evaluation/atomic_files.py", "app/datasets/partial.py"},
    }
    found: dict[str, set[str]] = {call: set() for call in homes}
    for path in modules():
        text = path.read_text()
        for call in homes:
            if call in text:
                found[call].add(str(path.relative_to(ROOT)))
    assert found == homes
