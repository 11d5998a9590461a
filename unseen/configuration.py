"""Configuration dataclasses to JSON and back, with clear errors."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from unseen.errors import UserError
from unseen.files import atomic_file

Config = TypeVar("Config")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing, is not JSON, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path} cannot be read, because {reason}.") from error
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): restore it from where it came from."
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object: it is the wrong file.")
    return value


def to_json(value: Any) -> Any:
    """Nested dataclasses, tuples, lists and dicts of plain values as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a configuration cannot hold {type(value).__name__} values")


def from_json(cls: type[Config], value: Any, where: str) -> Config:
    """Rebuild the dataclass `cls` from what `to_json` made of it.

    Fields that are missing take their defaults, so that settings added later do not
    break older files. `where` names the file in errors.

    Raises:
        UserError: a setting that `cls` does not have, one without a default that is
            missing, or a value of the wrong type.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where} should be an object of settings: restore the file.")
    hints = typing.get_type_hints(cls)
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            raise UserError(
                f"{where} has a setting '{name}' that this version of unseen does not "
                f"know: update unseen or remove the setting."
            )
    arguments = {
        name: _convert(hints[name], entry, f"{where}: {name}")
        for name, entry in value.items()
    }
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} does not hold valid settings for {cls.__name__} ({error}): "
            "restore the file."
        ) from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _convert(arguments[0], value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    if origin is tuple and isinstance(value, list):
        if arguments[1:] == (Ellipsis,):
            return tuple(_convert(arguments[0], entry, where) for entry in value)
        if len(value) == len(arguments):
            pairs = zip(arguments, value, strict=True)
            return tuple(_convert(kind, entry, where) for kind, entry in pairs)
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], entry, where) for entry in value]
    if origin is dict and isinstance(value, dict):
        return {
            key: _convert(arguments[1], entry, where) for key, entry in value.items()
        }
    if _matches(hint, origin, arguments, value):
        return float(value) if hint is float else value  # type: ignore[arg-type]
    raise UserError(f"{where} cannot be {value!r}: restore or correct the file.")


def _matches(hint: Any, origin: Any, arguments: tuple, value: Any) -> bool:
    """Whether a plain value is one of the annotated type."""
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in arguments
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)


def _convert_union(members: tuple, value: Any, where: str) -> Any:
    """The first member that fits; of dataclasses, the one that `value` is most like.

    A dataclass fits when it knows all settings of `value`: others may be missing.
    """
    if value is None and type(None) in members:
        return None
    settings = [m for m in members if dataclasses.is_dataclass(m)]
    if isinstance(value, dict):
        names = {m: {field.name for field in dataclasses.fields(m)} for m in settings}
        fitting = [m for m in settings if value.keys() <= names[m]]
        if fitting:
            closest = min(fitting, key=lambda m: len(names[m] - value.keys()))
            return from_json(typing.cast(type, closest), value, where)
    for member in members:
        if member not in settings:
            try:
                return _convert(member, value, where)
            except UserError:
                continue
    raise UserError(f"{where} cannot be {value!r}: restore or correct the file.")
