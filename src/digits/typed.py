"""Values as JSON and TOML give them, read as dataclasses, containers and plain types."""

import dataclasses
import enum
import typing
from pathlib import Path
from typing import Any

from digits.console import BadInput

_EXPECTED: dict[Any, tuple[str, Any]] = {
    bool: ("true or false", bool),
    int: ("a whole number", int),
    float: ("a number", int | float),
    str: ("a string", str),
    Path: ("a path", str | Path),
    list: ("a list", list | tuple),
    tuple: ("a list", list | tuple),
    dict: ("an object", dict),
}
"""What a value has to be, in words and as types."""


def read_as(kind: Any, value: Any, where: str, key: str = "") -> Any:
    """Return `value`, of JSON's types, as `kind`: a dataclass, enum, plain type or container, or one of these or None.

    Keys that a dataclass does not have are ignored: another version wrote them. Raises BadInput, naming the file
    `where` and the key, where a value is missing or of another type.
    """

    def inner(inner_kind: Any, name: str | int, item: Any) -> Any:
        return read_as(inner_kind, item, where, ".".join(filter(None, (key, str(name)))))

    arguments = typing.get_args(kind)
    if kind is Any or (value is None and type(None) in arguments):
        return value
    if type(None) in arguments:
        return read_as(arguments[0], value, where, key)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            choices = ", ".join(str(member.value) for member in kind)
            raise BadInput(f"{where}: {key!r}: expected one of {choices}, found {str(value)[:40]!r}.") from None
    is_dataclass = dataclasses.is_dataclass(kind)
    plain = dict if is_dataclass else typing.get_origin(kind) or kind
    expected, accepted = _EXPECTED[plain]
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        found = "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
        raise BadInput(f"{where}: {key!r}: expected {expected}, found {found}.")
    if is_dataclass:
        hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
        required = [each.name for each in fields if each.default is each.default_factory is dataclasses.MISSING]
        if missing := [name for name in required if name not in value]:
            name = ".".join(filter(None, (key, missing[0])))
            raise BadInput(f"{where}: {name!r} is missing.")
        present = [field.name for field in fields if field.name in value]
        return kind(**{name: inner(hints[name], name, value[name]) for name in present})
    if plain is dict:
        return {name: inner(arguments[1], name, item) for name, item in value.items()}
    if plain in (list, tuple):
        return plain(inner(arguments[0], number, item) for number, item in enumerate(value))
    try:
        return plain(value)
    except OverflowError:
        raise BadInput(f"{where}: {key!r}: expected {expected}, found one of {len(str(value))} digits.") from None
