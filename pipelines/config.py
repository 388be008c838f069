"""One configuration from four layers: command line over environment over file over default."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipelines.artifacts.files import raise_if_failing
from pipelines.errors import (
    ConfigError,
    UsageError,
    VintixError,
    did_you_mean,
    nearest,
    unknown,
)
from pipelines.options import ConflictError, bound_of, choices_of, flag_of, nested_class
from pipelines.values import nearest_number, value_problem
from pipelines.yaml_text import MAX_BYTES, YamlTextError, parse_yaml

ConfigT = TypeVar("ConfigT", bound=BaseModel)

STAGES = ("demonstrators", "distill", "pack", "train", "rollout")
"""The five stages; a run file has one section for each it sets something of."""

_OTHER_SPELLINGS = {"train": {"lr": "learning_rate"}}
"""Short names of settings, by stage. They are spelled out in each layer before the layers meet, so
that an upper layer's ``lr`` replaces a lower one's ``learning_rate``."""

_OPTION, _SET, _ENVIRONMENT, _FILE = "option", "--set", "environment", "file"
_PLACEHOLDER = re.compile(r"\{([\w.]+)\}")


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
        (_SET, _from_assignments(stage, model, assignments)),
        (_OPTION, given_here),
    )
    spellings = _OTHER_SPELLINGS.get(stage, {})
    for source, given in layers:
        layer = {spellings.get(key, key): value for key, value in given.items()}
        _merge(values, layer)
        sources |= dict.fromkeys(layer, source)
    origin = _Origin(stage, model, sources, file)

    def check(settings: Any) -> None:
        for location, value in _values(settings):
            problem = value_problem(value)
            if problem is not None:
                wrong = {"loc": location, "msg": problem, "type": "", "input": value}
                raise _describe(origin, wrong)

    # Before the configuration's own checks, and of the numbers that it reads from texts.
    check(values)
    try:
        config = model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise _describe(origin, first) from error
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


def _from_assignments(
    stage: str, model: type[BaseModel], assignments: Sequence[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        section, *path = key.strip().split(".")
        if not equals or section not in STAGES or not path or not all(path):
            raise _malformed(stage, model, text)
        if section == stage:
            nested: Any = _parse_value(value, text, UsageError)
            for part in reversed(path):
                nested = {part: nested}
            _merge(found, nested)
    return found


def _malformed(stage: str, model: type[BaseModel], text: str) -> VintixError:
    """Return the error of a ``--set`` that names no setting, with the one that was meant."""
    key, _, value = text.partition("=")
    first, *rest = [part for part in key.strip().split(".") if part] or [""]
    spellings = {name: name for name in model.model_fields} | _OTHER_SPELLINGS.get(stage, {})
    of_stage = {name: f"{stage}.{field}" for name, field in spellings.items()}
    near = nearest(first, STAGES if rest else (), of_stage)[:1]
    meant = [".".join([name, *rest]) for name in near]
    error = UsageError(
        did_you_mean("malformed --set", meant),
        where=text,
        expected=f"{stage}.FIELD=VALUE",
        fix=f"vintix {stage} --help",
    )
    for name in meant:
        corrected = f"{name}={value or 'VALUE'}"
        error.fix = f"vintix {stage} ... --set {shlex.quote(corrected)}"
        error.instead = (text, corrected)
    return error


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


@dataclass(frozen=True)
class _Origin:
    """Where the settings of a configuration are from, by the first name that leads to each.

    Those of defaults are nowhere.
    """

    stage: str
    model: type[BaseModel]
    sources: Mapping[str, str]
    file: Path | None

    def layer(self, path: Sequence[str]) -> str | None:
        """Return the layer that a setting is from."""
        return self.sources.get(path[0]) if path else None

    def place(self, path: Sequence[str]) -> str:
        """Return where a setting stands."""
        setting = ".".join([self.stage, *path])
        if self.layer(path) == _ENVIRONMENT:
            return f"VINTIX_{self.stage.upper()}_{path[0].upper()}"
        return f"{self.file}: {setting}" if self.layer(path) == _FILE else setting

    def spelled(self, path: Sequence[str]) -> str:
        """Return how a setting is written on the command line."""
        flag = None if self.layer(path) == _SET else flag_of(self.model, path)
        return flag or f"--set {'.'.join([self.stage, *path])}"

    def command(self, path: Sequence[str], value: str) -> str:
        """Return the command with a setting that is over those of the other layers."""
        flag = self.spelled(path)
        joint = "=" if flag.startswith("--set ") else " "
        return f"vintix {self.stage} ... {flag}{joint}{shlex.quote(value)}"

    def fill(self, fix: str, paths: Mapping[str, Sequence[str]]) -> str:
        """Return a fix in which each setting, ``{name}``, is spelled as it was given."""

        def given(found: re.Match[str]) -> str:
            path = paths.get(found[1])
            if path is None:
                return found[0]
            elsewhere = self.layer(path) in (_FILE, _ENVIRONMENT)
            return self.place(path) if elsewhere else self.spelled(path)

        return _PLACEHOLDER.sub(given, fix)


def _describe(origin: _Origin, first: Mapping[str, Any]) -> VintixError:
    """Return the error to raise of what pydantic tells of one wrong value."""
    path, holder = _setting(origin.model, first["loc"])
    conflict = first.get("ctx", {}).get("error")
    settings = conflict.settings if isinstance(conflict, ConflictError) else {}
    paths = {name: [*path, *name.split(".")] for name in settings} or {"": path}
    given = [each for each in paths.values() if origin.layer(each)]
    layers = {origin.layer(each) for each in given} or {_OPTION}
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
        short = _OTHER_SPELLINGS.get(origin.stage, {}) if holder is origin.model else {}
        wanted, known = path[-1], [*holder.model_fields, *short]
    elif first["type"] == "literal_error":
        known = list(choices_of(holder.model_fields[path[-1]]))
    error = unknown(
        f"{origin.stage}: {message}",
        wanted,
        known,
        kind=UsageError if layers & {_OPTION, _SET} else ConfigError,
        where=", ".join(map(origin.place, given or paths.values())),
        expected=expected,
        found=found,
        fix=f"vintix {origin.stage} --help",
    )
    if isinstance(conflict, ConflictError):
        error.fix = origin.fill(conflict.fix, paths)
    elif first["type"] == "extra_forbidden":
        if error.instead is not None:
            # On the command line it stands with its stage before it.
            section = ".".join([origin.stage, *path]).removesuffix(wanted)
            error.instead = (section + wanted, section + error.instead[1])
            error.fix = f"write {error.instead[1]} in place of {error.instead[0]}"
    elif path:
        near = error.instead[1] if error.instead else next(iter(known), None)
        if len(first["loc"]) > len(path):
            # Of several values one is wrong, and the others stay.
            error.instead = None if near is None else (wanted, near)
        else:
            value = near or _accepted(holder.model_fields[path[-1]], wanted)
            error.fix = error.fix if value is None else origin.command(path, value)
    return error


def _accepted(field: FieldInfo, wrong: str) -> str | None:
    """Return a value that a setting takes in place of a wrong one: the nearest, or the default."""
    kinds = {field.annotation, *get_args(field.annotation)}
    exclusive = bound_of(field, "gt") is not None or bound_of(field, "lt") is not None
    if kinds & {int, float} and not exclusive:
        bounds = (bound_of(field, "ge"), bound_of(field, "le"))
        number = nearest_number(wrong, *bounds, whole=float not in kinds)
        if number is not None:
            return number
    default = field.default
    # A switch takes no value on the command line.
    plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    return str(default) if plain else None


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
