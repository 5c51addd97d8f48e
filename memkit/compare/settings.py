"""Methods made of their settings in a file: names and values are checked, with their place."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from memkit.compare.spec import near
from memkit.errors import BadInput
from memkit.lm import layouts

__all__ = ["made"]

T = TypeVar("T")


def made(kind: type[T], settings: Mapping[str, Any], place: str) -> T:
    """An instance of a dataclass, of the settings that stand at a place of the file.

    Raises `BadInput` for a setting that the class does not have, or a value it does not allow.
    """
    fields = {f.name for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    for name in settings:
        if name not in fields:
            raise BadInput(f"{place}.{name} is unknown; {near(name, sorted(fields))}")
    hints = typing.get_type_hints(kind, localns=vars(layouts))  # imported there for types alone
    values = {
        name: _value(hints[name], value, f"{place}.{name}") for name, value in settings.items()
    }
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.init and field.name not in values and _required(field):
            raise BadInput(
                f"{place}.{field.name} is missing; allowed: {_words(hints[field.name])}. Write one."
            )
    try:
        return kind(**values)
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from error


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _words(hint: Any) -> str:
    """What a setting may be, in words."""
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    return " or ".join(map(repr, choices)) or str(getattr(hint, "__name__", hint))


def _value(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return made(typing.cast("type[Any]", hint), value, place)
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ").rstrip(".")
        raise BadInput(f"{place} is {value!r}: {why}.") from error
