"""Reads YAML that people write: text, numbers, truth values, lists and mappings, and no surprises.

What PyYAML would take silently or end in a Python error at is refused with its line.
"""

from __future__ import annotations

from functools import cache
from typing import Any

MAX_BYTES = 1 << 24
"""Largest text."""

MAX_DEPTH = 64
"""Deepest nesting of lists and mappings."""

MAX_VALUES = 1_000_000
"""Most values, each counted as often as aliases repeat it."""

_NOT_UTF8 = "bytes that are no UTF-8, the encoding of YAML files here"
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


class YamlTextError(ValueError):
    """The text is not what `parse_yaml` reads.

    Attributes:
        line: Line it begins at, from 1; None where no line can be named.
    """

    def __init__(self, problem: object, line: int | None = None) -> None:
        super().__init__(" ".join(str(problem).split()))
        self.line = line

    def where(self, source: object) -> str:
        """Return the source with the line behind it."""
        return f"{source}, line {self.line}" if self.line is not None else str(source)


def parse_yaml(content: bytes | str) -> Any:
    """Return the one value of a YAML text; None of an empty one.

    Args:
        content: UTF-8, with or without a byte order mark, or text.

    Raises:
        YamlTextError: It is none, or holds what is refused.
    """
    import yaml

    text = _decode(content) if isinstance(content, bytes) else content
    if len(text) > MAX_BYTES:
        raise YamlTextError(f"more than {MAX_BYTES:,} characters")
    try:
        _check_size(text)
        return yaml.load(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlTextError(problem, None if mark is None else mark.line + 1) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlTextError("a control character", line) from error
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise YamlTextError(_NOT_UTF8, line) from error
    except yaml.YAMLError as error:
        raise YamlTextError(error) from error


def _decode(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise YamlTextError(f"more than {MAX_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlTextError(_NOT_UTF8, line) from error


def _check_size(text: str) -> None:
    """Refuse nesting and aliases without bounds, before anything is built of them."""
    import yaml

    sizes: dict[str, int | None] = {}
    open_collections: list[tuple[str | None, int]] = []
    values = 0
    for event in yaml.parse(text, Loader=_loader()):
        anchor: Any = getattr(event, "anchor", None)
        added = 1
        if isinstance(event, yaml.CollectionStartEvent):
            open_collections.append((anchor, values))
            if len(open_collections) > MAX_DEPTH:
                raise _at(event, f"nested more than {MAX_DEPTH} deep")
            if anchor is not None:
                sizes[anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            begun, before = open_collections.pop()
            if begun is not None:
                sizes[begun] = values - before
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(anchor, 0)
            if size is None:
                raise _at(event, f"*{anchor} stands within itself")
            added = size
        elif isinstance(event, yaml.ScalarEvent) and anchor is not None:
            sizes[anchor] = 1
        values += added
        if values > MAX_VALUES:
            raise _at(event, f"more than {MAX_VALUES:,} values once its aliases are unfolded")


def _at(event: Any, problem: str) -> YamlTextError:
    return YamlTextError(problem, event.start_mark.line + 1)


@cache
def _loader() -> Any:
    """Return what reads YAML; defined here so that YAML is imported when it is read."""
    import yaml

    # The C parser is ten times faster; PyYAML is also shipped without it.
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        def construct_object(self, node: Any, deep: bool = False) -> Any:
            line = node.start_mark.line + 1
            kind = node.tag.removeprefix(_TAG)
            if kind == "map":
                _check_keys(node)
            elif kind == "timestamp":
                raise YamlTextError("a date; in quotes it is text", line)
            elif kind not in ("seq", "str", "int", "float", "bool", "null"):
                raise YamlTextError(f"a value of the kind {kind}, which no setting has", line)
            try:
                return super().construct_object(node, deep=True)
            except YamlTextError:
                raise
            except (ValueError, KeyError) as error:
                told = f"a value that cannot be read as {kind}; in quotes it is text"
                raise YamlTextError(told, line) from error

    return Loader


def _check_keys(node: Any) -> None:
    """Refuse keys that are no text or stand twice in a mapping."""
    seen = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            continue
        if key.tag != f"{_TAG}str":
            shown = repr(key.value) if isinstance(key.value, str) else "of several values"
            raise YamlTextError(f"the key {shown} is no text; put it in quotes", line)
        if key.value in seen:
            raise YamlTextError(f"the key {key.value!r} stands twice", line)
        seen.add(key.value)
