"""The import ladder: each room imports only from rooms above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import memkit

PACKAGE = Path(memkit.__file__).parent

# A room is a module or a folder of the package. Departures from the design: metrics stand high,
# since they are pure functions that protocols, the world and reports share; mentions serve
# retrieval and routing alike.
LADDER = """
errors
types
truthfulness
files progress mentions metrics
lm
editors
retrieval
prompts
routing
deciding
qa
witness
benchmarks
world
protocols
figures
showcase report doctor
compare
cli
__main__
testing
""".strip().splitlines()
LEVEL = {room: level for level, rooms in enumerate(LADDER) for room in rooms.split()}
STRANGERS = {("editors", "retrieval"), ("routing", "lm"), ("routing", "retrieval")}


def imports(path: Path) -> set[str]:
    """Rooms that a module imports, at load or at first use; not those for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "memkit"
            names = [f"memkit.{a.name}" for a in node.names] if whole else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("memkit.")}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if room(path) != "__init__")


def test_the_walk_sees_imports():
    assert "types" in imports(PACKAGE / "retrieval" / "base.py")
    assert {room(path) for path in MODULES} <= LEVEL.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_above(path: Path):
    own = room(path)
    for other in imports(path) - {own}:
        if other not in LEVEL:
            continue  # a public name of the package itself, such as memkit.__version__
        assert LEVEL[other] < LEVEL[own] or own == "testing", f"{own} imports {other}"
        assert (own, other) not in STRANGERS, f"{own} must not know {other}"
