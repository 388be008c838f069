"""Every ``vintix`` command line that the project prints is one that the command line takes.

Nothing runs: each is parsed by the real command, and the configuration of a stage is made of it.
"""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.config import STAGES, config_class, resolve_config
from pipelines.domains.registry import full_catalogue
from vintix_cli import help as command_help
from vintix_cli.app import app
from vintix_cli.options import Run

from .support import ROOT

PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "examples/*.sh", "runs/*.sh")
    for path in ROOT.glob(pattern)
)
CODE = sorted(
    path
    for package in ("pipelines", "vintix", "vintix_cli")
    for path in (ROOT / package).rglob("*.py")
)
OTHERS = ("point-mass",)
"""Domains of examples, which are not installed."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}(.*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`]*)`")
_WORD = re.compile(r"(?<![\w/.\"'-])vintix (?=[a-z])")
_END = re.compile(r" \| | > | 2>|;| && |\n|\$\(|\)| #")


def _shell_lines(text: str) -> Iterator[str]:
    text = re.sub(r"\s*\\\n\s*", " ", text).replace("$(which vintix)", "vintix")
    # What a shell puts in, such as the names of many tasks.
    text = re.sub(r"\$\((?![^()]*vintix)[^()]*\)", "", text)
    text = re.sub(r"\"\$(?:@|\{\w+\[@\]\})\"", "", text)
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            for found in _WORD.finditer(line):
                yield "vintix " + _END.split(line[found.end() :])[0].strip()


def commands_of(page: Path) -> Iterator[str]:
    """Return the command lines of a page or a script as they are typed, alternatives one by one."""
    text = (ROOT / page).read_text()
    if page.suffix == ".sh":
        for name, default in re.findall(r"^(\w+)=\"?\$\{\w+:-([^}]*)\}", text, re.MULTILINE):
            text = text.replace(f"${name}", default)
        yield from _shell_lines(text)
        return
    for language, block in _FENCE.findall(text):
        if language in ("", "bash", "sh"):
            yield from _shell_lines(block)
    yield from _shell_lines("\n".join(_INDENTED.findall(text)))
    for span in _SPAN.findall(_FENCE.sub("", text)):
        span = " ".join(span.split()).replace("\\|", "|").replace("...", "")
        for line in _shell_lines(re.sub(r"[\[\]]", " ", span)):
            choices = [word.split("|") for word in shlex.split(line)]
            yield from map(shlex.join, itertools.product(*choices))


PRINTED = {str(page): sorted({*commands_of(page)}) for page in PAGES}
PARSER_ERROR: Any = typer.BadParameter.__base__
COMMAND: Any = typer.main.get_command(app)


@pytest.fixture(scope="module")
def parsed():
    """Tells how the command line takes a line, without running it."""
    patch = pytest.MonkeyPatch()

    def resolve(stage: str, settings: Any, run: Run, *_: Any, **__: Any) -> None:
        config: Any = resolve_config(
            stage, config_class(stage), command_line=settings, assignments=run.set or ()
        )
        # Capital letters and a shell's variables stand for any name.
        tasks = [name for name in config.tasks if name != name.upper()]
        domains = [name for name in config.domains if name not in OTHERS and name != name.upper()]
        full_catalogue().select(tasks=tasks, domains=domains)

    run = command_help.Command.invoke

    def invoke(self: Any, ctx: Any) -> Any:
        return run(self, ctx) if ctx.command.name in STAGES and not ctx.params.get("plan") else 0

    patch.setattr(command_help.Command, "invoke", invoke)
    for module in ("stages", "rollout"):
        patch.setattr(f"vintix_cli.commands.{module}.run_stage", resolve)
    yield lambda words: COMMAND.main(args=words, prog_name="vintix", standalone_mode=False) or 0
    patch.undo()


def test_there_are_commands_to_check():
    """The test below sees the pages that have the most of them."""
    for page in ("README.md", "docs/domains.md", "examples/nightly.sh", "runs/results.sh"):
        assert len(PRINTED[page]) >= 5, page
    assert sum(map(len, PRINTED.values())) > 100


@pytest.mark.parametrize("page", [page for page, lines in PRINTED.items() if lines])
def test_the_commands_that_a_page_prints_are_accepted(parsed, capsys, page):
    wrong = []
    for line in PRINTED[page]:
        words = [re.sub(r"\$\{?\w+\}?|^N$", "1", word) for word in shlex.split(line)[1:]]
        command = COMMAND
        for word in words:
            command = _within(command, word)
        if hasattr(command, "commands") and words[-1] == command.name:
            continue  # a group by its name alone
        try:
            code = parsed(words)
        except PARSER_ERROR as error:
            # Text may name a command or an option without all that it takes.
            short = type(error).__name__ in ("MissingParameter", "BadOptionUsage")
            code = 0 if short and Path(page).suffix == ".md" else error
        if code != 0:
            wrong.append(f"{line}: {code} {capsys.readouterr().err}")
    assert not wrong, "\n".join(wrong)


def test_what_messages_advise_has_options_that_the_command_has():
    """In the strings of the code, for each command the options that follow it."""
    assert _unknown("vintix rollout --device cpu, or wait") == ["vintix rollout --device cpu"]
    wrong = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            for text in _texts(node):
                wrong += [
                    f"{path.relative_to(ROOT)}:{node.lineno}: {each}" for each in _unknown(text)
                ]
    assert wrong == []


def _within(command: Any, word: str) -> Any:
    """Return the command of a group that a word names; the command itself where it names none."""
    return (hasattr(command, "commands") and command.get_command(None, word)) or command


def _texts(node: ast.AST) -> list[str]:
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
        return ["".join(map(str, parts))]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _unknown(text: str) -> list[str]:
    found = []
    for match in _WORD.finditer(text):
        command = COMMAND
        said = re.split(r"[,;()\"`]|\. |: | or | and | then ", text[match.end() :])[0]
        for word in said.split():
            command = _within(command, word)
        known = {"--help"}.union(
            *((*each.opts, *getattr(each, "secondary_opts", ())) for each in command.params)
        )
        found += [
            f"vintix {said}"
            for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", said)
            if not hasattr(command, "commands") and option not in known
        ]
    return found
