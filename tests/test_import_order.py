"""Imports go one way: no file and no folder of the packages is part of a circle.

Imports inside functions count, those for types alone (``if TYPE_CHECKING``) do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "vintix", "vintix_cli")


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from statements(child)


def imports(name: str, path: Path, known: Mapping[str, Path]) -> set[str]:
    found = set()
    for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            named = [alias.name for alias in statement.names]
        else:
            assert statement.level == 0, f"{name} imports relatively"
            module = statement.module or ""
            inside = [f"{module}.{alias.name}" for alias in statement.names]
            named = [each if each in known else module for each in inside]
        found.update(each for each in named if each in known and each != name)
    return found


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of two or more (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for following in sorted(edges.get(node, ())):
            if following not in order:
                visit(following)
                low[node] = min(low[node], low[following])
            elif following in stack:
                low[node] = min(low[node], order[following])
        if low[node] == order[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def file_edges() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def folder_edges() -> dict[str, set[str]]:
    """Return which folder of `pipelines` imports which; a module on top is a folder of its own."""

    def folder(name: str) -> str:
        return ".".join(name.split(".")[:2])

    edges: dict[str, set[str]] = {}
    for name, targets in file_edges().items():
        mine = edges.setdefault(folder(name), set())
        mine.update(folder(target) for target in targets if folder(target) != folder(name))
    return edges


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_file_is_part_of_a_circle():
    assert circles(file_edges()) == []


def test_no_folder_is_part_of_a_circle():
    assert circles(folder_edges()) == []


def test_the_logic_never_imports_the_command_line():
    assert not [
        (name, target)
        for name, targets in file_edges().items()
        for target in targets
        if name.startswith("pipelines") and target.startswith("vintix_cli")
    ]
