"""One configuration from four layers: command line over environment over file over default."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.artifacts.files import raise_if_failing
from pipelines.errors import ConfigError, UsageError, VintixError, unknown
from pipelines.options import ConflictError, choices_of, nested_class
from pipelines.values import value_problem
from pipelines.yaml_text import MAX_BYTES, YamlTextError, parse_yaml

ConfigT = TypeVar("ConfigT", bound=BaseModel)

STAGES = ("demonstrators", "distill", "pack", "train", "rollout")
"""The five stages; a run file has one section for each it sets something of."""

_OTHER_SPELLINGS = {"train": {"lr": "learning_rate"}}
"""Short names of settings, by stage. They are spelled out in each layer before the layers meet, so
that an upper layer's ``lr`` replaces a lower one's ``learning_rate``."""

_COMMAND_LINE, _ENVIRONMENT, _FILE = "command line", "environment", "file"


def config_class(stage: str) -> type[BaseModel]:
    """Return the configuration class of a stage: ``pipelines.<stage>.config.<Stage>Config``."""
    module = import_module(f"pipelines.{stage}.config")
    found: type[BaseModel] = getattr(module, f"{stage.capitalize()}Config")
    return found


def read_run_file(path: Path) -> dict[str, dict[str, Any]]:
    """Read a run file: a YAML mapping from stage to settings.

    Raises:
        ConfigError: The file is missing, is no YAML, or names an unknown stage.
    """
    sections = ", ".join(STAGES)
    try:
        # Also a pipe, such as a shell's <(...); of what has no end, no more than is allowed.
        with path.open("rb") as file:
            content = parse_yaml(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise_if_failing(error, path)
        raise unknown(
            "cannot read the configuration file",
            str(path),
            [str(each) for each in sorted(path.parent.glob("*.y*ml"))],
            kind=ConfigError,
            where=path,
            expected=f"a YAML file with sections named {sections}",
            found=error.strerror,
            fix="give the path of such a file, or leave --config out",
        ) from error
    except YamlTextError as error:
        raise ConfigError(
            "the configuration file is not valid YAML", where=error.where(path), found=error
        ) from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(
            "the configuration file is not a mapping",
            where=path,
            expected=f"sections named {sections}",
            found=type(content).__name__,
        )
    for section, settings in content.items():
        if section not in STAGES or not isinstance(settings, dict):
            raise unknown(
                "unknown or malformed section in the configuration file",
                str(section),
                () if section in STAGES else STAGES,
                kind=ConfigError,
                where=f"{path}: {section}",
                expected=f"a mapping under one of {sections}",
                found=repr(settings)[:60],
            )
    return content


def resolve_config(
    stage: str,
    model: type[ConfigT],
    *,
    command_line: Mapping[str, Any],
    assignments: Sequence[str] = (),
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ConfigT:
    """Build the configuration of a stage.

    Args:
        stage: One of `STAGES`.
        command_line: Settings given as options; None values count as not given.
        assignments: ``--set`` texts such as ``train.lr=3e-4``, further dots reach into nested
            settings; values are YAML. Those of other stages are left alone.
        environment: ``VINTIX_<STAGE>_<FIELD>`` variables are read from it; default os.environ.

    Raises:
        UsageError: A value from the command line is unknown or out of range.
        ConfigError: A value from the file or the environment is, or a variable
            ``VINTIX_<STAGE>_...`` names no setting.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    given_here = {key: value for key, value in command_line.items() if value is not None}
    layers = (
        (_FILE, read_run_file(file).get(stage, {}) if file else {}),
        (_ENVIRONMENT, _from_environment(stage, model, environment)),
        (_COMMAND_LINE, _from_assignments(stage, assignments)),
        (_COMMAND_LINE, given_here),
    )
    spellings = _OTHER_SPELLINGS.get(stage, {})
    for source, given in layers:
        layer = {spellings.get(key, key): value for key, value in given.items()}
        _merge(values, layer)
        sources |= dict.fromkeys(layer, source)

    def check(settings: Any) -> None:
        for location, value in _values(settings):
            problem = value_problem(value)
            if problem is not None:
                wrong = {"loc": location, "msg": problem, "type": "", "input": value}
                raise _describe(stage, model, wrong, sources, file)

    # Before the configuration's own checks, and of the numbers that it reads from texts.
    check(values)
    try:
        config = model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise _describe(stage, model, first, sources, file) from error
    check(config)
    return config


def _values(value: Any, location: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Yield the place of each value of a configuration, and the value."""
    if isinstance(value, BaseModel):
        parts: Iterable[tuple[str | int, Any]] = value
    elif is_dataclass(value):
        parts = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        yield location, value
        return
    for name, part in parts:
        yield from _values(part, (*location, name))


def _from_environment(
    stage: str, model: type[BaseModel], environment: Mapping[str, str] | None
) -> dict[str, Any]:
    environment = os.environ if environment is None else environment
    prefix = f"VINTIX_{stage.upper()}_"
    settings = {*model.model_fields, *_OTHER_SPELLINGS.get(stage, {})}
    found = {}
    for variable in sorted(environment):
        if not variable.startswith(prefix):
            continue
        field = variable.removeprefix(prefix).lower()
        if field not in settings:
            known = [prefix + name.upper() for name in model.model_fields]
            raise unknown(
                "unknown setting in the environment",
                variable,
                known,
                kind=ConfigError,
                where=variable,
                expected=", ".join(known),
                found=f"{variable}={environment[variable]}",
                fix=f"unset {variable}, or correct its name",
            )
        found[field] = _parse_value(environment[variable], variable, ConfigError)
    return found


def _from_assignments(stage: str, assignments: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        section, *path = key.strip().split(".")
        if not equals or section not in STAGES or not path or not all(path):
            raise UsageError(
                "malformed --set",
                where=text,
                expected=f"{stage}.FIELD=VALUE",
                fix=f"vintix {stage} --help",
            )
        if section == stage:
            nested: Any = _parse_value(value, text, UsageError)
            for part in reversed(path):
                nested = {part: nested}
            _merge(found, nested)
    return found


def _merge(values: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Lay a layer over values; mappings are merged key by key."""
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = dict(value) if isinstance(value, Mapping) else value


def _parse_value(text: str, where: str, kind: type[VintixError]) -> Any:
    try:
        value = parse_yaml(text)
    except YamlTextError as error:
        raise kind("cannot read the value", where=where, expected="YAML", found=error) from error
    if isinstance(value, str):
        # YAML 1.1 reads 3e-4 as text; everybody who types it means a number.
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _describe(
    stage: str,
    model: type[BaseModel],
    first: Mapping[str, Any],
    sources: Mapping[str, str],
    file: Path | None,
) -> VintixError:
    """Return the error to raise of what pydantic tells of one wrong value."""
    path, holder = _setting(model, first["loc"])
    conflict = first.get("ctx", {}).get("error")
    settings = conflict.settings if isinstance(conflict, ConflictError) else {}
    # Those of defaults are nowhere.
    names = [".".join([*path, name]) for name in settings] if settings else [".".join(path)]
    given = [name for name in names if name.partition(".")[0] in sources]
    found_in = {sources[name.partition(".")[0]] for name in given} or {_COMMAND_LINE}

    def place(name: str) -> str:
        field = name.partition(".")[0]
        setting = f"{stage}.{name}".rstrip(".")
        return {
            _FILE: f"{file}: {setting}",
            _ENVIRONMENT: f"VINTIX_{stage.upper()}_{field.upper()}",
        }.get(sources.get(field, _COMMAND_LINE), setting)

    found: str | None
    if settings:
        found = ", ".join(f"{name}={_shown(value)}" for name, value in settings.items())
    else:
        # Of what is wrong with a configuration as a whole, the whole would tell nothing.
        found = repr(first.get("input"))[:80] if path else None
    message, expected = first["msg"].removeprefix("Value error, "), None
    wanted, known = str(first.get("input")), []
    if first["type"] == "extra_forbidden":
        message, expected = "unknown setting", ", ".join(holder.model_fields)
        wanted, known = path[-1], list(holder.model_fields)
    elif first["type"] == "literal_error":
        known = list(choices_of(holder.model_fields[path[-1]]))
    error = unknown(
        f"{stage}: {message}",
        wanted,
        known,
        kind=UsageError if _COMMAND_LINE in found_in else ConfigError,
        where=", ".join(map(place, given or names)),
        expected=expected,
        found=found,
        fix=f"vintix {stage} --help",
    )
    if first["type"] == "extra_forbidden" and error.instead is not None:
        # On the command line it stands with its stage before it.
        section = ".".join([stage, *path]).removesuffix(wanted)
        error.instead = (section + wanted, section + error.instead[1])
    return error


def _shown(value: object) -> str:
    return f"{value}" if isinstance(value, str | int | float) else repr(value)[:80]


def _setting(
    model: type[BaseModel], location: Sequence[str | int]
) -> tuple[list[str], type[BaseModel]]:
    """Return the names that lead to a setting, and the class that has or lacks the last one."""
    path: list[str] = []
    for part in location:
        if path:
            field = model.model_fields.get(path[-1])
            nested = None if field is None else nested_class(field)
            if nested is None:
                break
            model = nested
        path.append(str(part))
    return path, model
