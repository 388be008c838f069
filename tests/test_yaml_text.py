"""YAML of people: what is read, and that everything else is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.config import resolve_config
from pipelines.errors import ConfigError, UsageError
from pipelines.pack.config import PackConfig
from pipelines.tasks.loader import parse_domain
from pipelines.yaml_text import MAX_BYTES, MAX_DEPTH, YamlTextError, parse_yaml

_LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 40)
)

REFUSED: dict[str, tuple[str | bytes, int | None, str]] = {
    "no such day": ("x: 1\na: 2024-99-99", 2, "a date"),
    "a date": ("a: 2024-01-01", 1, "in quotes it is text"),
    "no digits": ("x: 1\na: 0b_", 2, "cannot be read as int"),
    "more digits than Python reads": (f"a: {'9' * 5000}", 1, "cannot be read as int"),
    "tagged": ("a: !!int many", 1, "cannot be read as int"),
    "an object": ("a: !!python/object/apply:os.system [ls]", 1, "python/object"),
    "a set": ("a: !!set {b}", 1, "set"),
    "bytes": ("a: !!binary xx", 1, "binary"),
    "a number as key": ("x: 1\n\n1: a", 3, "'1' is no text"),
    "a truth value as key": ("on: a", 1, "'on' is no text"),
    "a list as key": ("? [a]\n: b", 1, "no text"),
    "a key twice": ("a: 1\nb: 2\na: 3", 3, "'a' stands twice"),
    "a key twice below": ("t:\n  a: 1\n  a: 3", 3, "'a' stands twice"),
    "open": ("a: [1,\n", 2, "while parsing a flow"),
    "itself": ("a: &x [1, *x]", 1, "within itself"),
    "laughs": (_LAUGHS, 7, "once its aliases are unfolded"),
    "deep in flow": ("[" * 100_000, 1, "nest"),
    "deep in blocks": ("- " * (MAX_DEPTH + 1) + "x", 1, "nested more than 64 deep"),
    "two documents": ("a: 1\n---\nb: 2", 2, "single document"),
    "unknown alias": ("a: *x", 1, "undefined alias"),
    "UTF-16": ("a: 1".encode("utf-16"), 1, "UTF-8"),
    "Latin-1": ("a: 1\nb: é".encode("latin-1"), 2, "UTF-8"),
    "a null": ("a: 1\nb: x\0y", 2, "control character"),
    "a byte of a command line": ("a: x\udcff", 1, "UTF-8"),
    "size": (b"#" * (MAX_BYTES + 1), None, "more than"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_has_its_line(what):
    content, line, problem = REFUSED[what]
    with pytest.raises(YamlTextError, match=problem.replace("(", "\\(")) as caught:
        parse_yaml(content)
    assert caught.value.line == line
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", REFUSED)
def test_it_ends_as_3_in_a_file_and_2_after_set(what, tmp_path):
    content, line, _ = REFUSED[what]
    file = tmp_path / "run.yaml"
    file.write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    )
    with pytest.raises(ConfigError) as told:
        resolve_config("pack", PackConfig, command_line={}, file=file, environment={})
    assert told.value.where == (f"{file}, line {line}" if line else str(file))
    if isinstance(content, bytes):
        return
    with pytest.raises(UsageError):
        resolve_config("pack", PackConfig, command_line={}, assignments=[f"pack.name={content}"])
    variables = {"VINTIX_PACK_NAME": content}
    with pytest.raises(ConfigError) as variable:
        resolve_config("pack", PackConfig, command_line={}, environment=variables)
    assert variable.value.where == "VINTIX_PACK_NAME"
    with pytest.raises(ConfigError) as catalogue:
        parse_domain(content, "mine.yaml")
    assert catalogue.value.where == f"mine.yaml, line {line}"


def test_what_is_read():
    assert parse_yaml("") is None
    assert parse_yaml(b"\xef\xbb\xbfa: \xc3\xa9") == {"a": "é"}
    text = "x: &x {a: 1, b: [1.5, yes, null, '1', 0x10]}\ny: {<<: *x, a: 2}\nz: *x"
    x = {"a": 1, "b": [1.5, True, None, "1", 16]}
    assert parse_yaml(text) == {"x": x, "y": {**x, "a": 2}, "z": x}
    assert parse_yaml("- " * MAX_DEPTH + "x")


def test_a_run_file_may_be_a_pipe_but_has_an_end():
    with pytest.raises(ConfigError) as told:
        resolve_config("pack", PackConfig, command_line={}, file=Path("/dev/zero"), environment={})
    assert "more than" in str(told.value.found)
