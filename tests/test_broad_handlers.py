"""No handler takes an interruption for something else: read from the source of every module."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import InterruptedRunError, VintixError

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("pipelines", "vintix", "vintix_cli", "runs", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
#: Handlers that end an interruption, and why they may.
MAY = {
    "pipelines/train/checkpoint.py": 1,  # in a thread, where no signal is raised; told later
    "pipelines/train/launch.py": 1,  # passes it on to the launcher, which raises it
    "pipelines/train/processes.py": 1,  # raises it after the others know
    "runs/train_experts.py": 1,  # the end of a program
    "vintix_cli/__main__.py": 1,  # the end of a program
    "vintix_cli/run.py": 1,  # the end of a command
}
#: What an interruption is caught by.
CATCHES = {"BaseException", "KeyboardInterrupt", "Reported", "InterruptedRunError"}


def _names(node: ast.expr | None) -> set[str]:
    if node is None:
        return {"BaseException"}
    return {
        each.id if isinstance(each, ast.Name) else getattr(each, "attr", "")
        for each in (node.elts if isinstance(node, ast.Tuple) else [node])
    }


def _swallowing(tree: ast.AST) -> Iterator[int]:
    """Yield the lines where an interruption can end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _names(node.type) & CATCHES:
            if not isinstance(node.body[-1], ast.Raise):
                yield node.lineno
        elif isinstance(node, ast.Call) and _names(node.func) == {"suppress"}:
            if set().union(*map(_names, node.args)) & CATCHES:
                yield node.lineno
        elif isinstance(node, ast.Try):
            yield from (line for each in node.finalbody for line in _leaving(each))


def _leaving(node: ast.AST, loop: bool = False) -> Iterator[int]:
    """Yield the lines of a ``finally`` that leave it, and with it drop what was raised."""
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.Return) or (isinstance(node, ast.Break | ast.Continue) and not loop):
        yield node.lineno
    for child in ast.iter_child_nodes(node):
        yield from _leaving(child, loop or isinstance(node, ast.For | ast.While))


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("try: f()\nexcept Exception: pass", []),
        ("try: f()\nexcept BaseException:\n g()\n raise", []),
        ("try: f()\nexcept: pass", [2]),
        ("try: f()\nexcept (OSError, BaseException): pass", [2]),
        ("try: f()\nexcept errors.Reported as error: g(error)", [2]),
        ("with contextlib.suppress(BaseException): f()", [1]),
        ("def f():\n try: g()\n finally:\n  return 1", [4]),
        ("for i in x:\n try: g()\n finally:\n  for j in y: break", []),
        ("for i in x:\n try: g()\n finally: continue", [3]),
    ],
)
def test_what_counts_as_swallowing(source, lines):
    assert list(_swallowing(ast.parse(source))) == lines


def test_no_handler_swallows_an_interruption():
    found = {
        str(path.relative_to(ROOT)): list(_swallowing(ast.parse(path.read_text("utf-8"))))
        for path in SOURCES
    }
    assert {path: len(lines) for path, lines in found.items() if lines} == MAY, found


def test_an_interruption_is_no_exception_that_a_broad_handler_catches():
    error = InterruptedRunError("stopped", signal_number=15, where="here", fix="again")
    assert not isinstance(error, Exception | VintixError)
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), sent.exit_code, sent.as_dict()) == (
        InterruptedRunError,
        143,
        error.as_dict(),
    )
