"""Checks of the arguments of public calls, made before a call changes anything.

Each check raises OptionError with one sentence: the parameter, the allowed values, and the actual
value. A check returns the value in the form that the caller uses.
"""

import os
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from enum import Enum
from io import TextIOBase
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from journal.errors import OptionError

INT_MAX = (1 << 63) - 1
_QUOTED_SIZE_MAX = 60
_QUOTED_BITS_MAX = 128
_LINE_SIZE_MAX = 400
_LISTED_COUNT_MAX = 6
"""Maximum number of members of an enum that a message shows with their values."""

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


def quote(value: object) -> str:
    """Return a value for a message: on one line, and cut. An object is shown as its type."""
    if isinstance(value, str | bytes):
        # Enums are shown as their values, and only as much as fits is converted.
        plain = str.__str__(value) if isinstance(value, str) else bytes(value[:_QUOTED_SIZE_MAX])
        text = repr(plain[:_QUOTED_SIZE_MAX])
        return text + "…" if len(value) > _QUOTED_SIZE_MAX else text
    if isinstance(value, int) and value.bit_length() > _QUOTED_BITS_MAX:
        return f"an integer of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if isinstance(value, list | tuple | dict | set | frozenset) and not value:
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"


def to_line(text: str) -> str:
    """Return a text as it is if it is one short line, else quoted, and cut in its middle."""
    if text.isprintable() and len(text) <= _LINE_SIZE_MAX:
        return text
    part = _LINE_SIZE_MAX // 4
    return quote(text) if len(text) <= 2 * part else f"{text[:part]!r}…{text[-part:]!r}"


def refuse(name: str, allowed: str, value: object) -> NoReturn:
    """Raise OptionError for the value of a parameter."""
    raise OptionError(f"{name} must be {allowed}, got {quote(value)}")


def check_path(name: str, value: Any) -> Path:
    """Return a path."""
    path: Any = value
    try:
        path = os.fspath(value)
        is_text = isinstance(path, str)
        if is_text:
            os.fsencode(path)
    except (TypeError, UnicodeError):
        is_text = False
    if not is_text:
        refuse(name, "a path", value)
    if not path or "\0" in path:
        refuse(name, "a path that is not empty and has no NUL character", path)
    return Path(path)


def check_int(name: str, value: Any, low: int = 0, high: int = INT_MAX) -> int:
    """Return an integer from ``low`` to ``high``. A truth value is no integer."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        is_high = isinstance(value, int) and value > high
        allowed = (
            f"of at least {low}" if high == INT_MAX and not is_high else f"from {low} to {high}"
        )
        refuse(name, f"an integer {allowed}", value)
    return int(value)


def check_seconds(name: str, value: Any, *, can_be_zero: bool = True) -> float:
    """Return a finite number of seconds that is not negative."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # A comparison, unlike a conversion, accepts an integer of any size.
    if not is_number or value > INT_MAX or not isfinite(value) or value < 0:
        refuse(name, f"a number of seconds from 0 to {INT_MAX}", value)
    if not value and not can_be_zero:
        refuse(name, "greater than 0 seconds", value)
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """Return a truth value. No other type stands for one."""
    if not isinstance(value, bool):
        refuse(name, "True or False", value)
    return value


def check_buffer(name: str, value: Any) -> Any:
    """Return bytes or another buffer without a copy."""
    if not isinstance(value, bytes | bytearray | memoryview):
        refuse(name, "bytes", value)
    return value


def check_bytes(name: str, value: Any) -> bytes:
    """Return a buffer as bytes."""
    return bytes(check_buffer(name, value))


def check_text(name: str, value: Any) -> str:
    """Return a text that can be encoded."""
    if not isinstance(value, str):
        refuse(name, "a text", value)
    try:
        value.encode()
    except UnicodeError:
        refuse(name, "a text without lone surrogates", value)
    return value


def check_choice(name: str, value: Any, kind: type[E]) -> E:
    """Return a member of the enum ``kind``, given as itself or as its value."""
    if isinstance(value, kind):
        return value
    allowed = [member.value for member in kind]
    if isinstance(value, str | int) and not isinstance(value, bool) and value in allowed:
        return kind(value)
    if len(allowed) > _LISTED_COUNT_MAX:
        names = ", ".join(member.name for member in kind)
        refuse(name, f"one of {kind.__name__}: {names}", value)
    names = ", ".join(f"{kind.__name__}.{member.name} ({member.value!r})" for member in kind)
    refuse(name, names, value)


def check_type(name: str, value: Any, kind: type[T]) -> T:
    """Return an instance of ``kind``."""
    if not isinstance(value, kind):
        refuse(name, f"of type {kind.__name__}", value)
    return value


def check_class(name: str, value: Any, base: type[T]) -> type[T]:
    """Return a class that derives from ``base``."""
    if not isinstance(value, type) or not issubclass(value, base):
        refuse(name, f"a class derived from {base.__name__}", value)
    return value


def check_optional(name: str, value: Any, check: Callable[..., T], *allowed: Any) -> T | None:
    """Return None, or the value that ``check`` accepts. ``allowed`` are its further arguments."""
    return None if value is None else check(name, value, *allowed)


def check_methods(name: str, value: Any, *methods: str) -> None:
    """Check that an object has methods with these names. Classes do not pass."""
    if isinstance(value, type) or not all(callable(getattr(value, each, None)) for each in methods):
        refuse(name, f"an object with {' and '.join(methods)}", value)


def check_callable(name: str, value: Any) -> Any:
    """Return a value that can be called."""
    if not callable(value):
        refuse(name, "callable", value)
    return value


def check_output(name: str, value: Any) -> Any:
    """Return an open binary file that can be written."""
    return _check_file(name, value, "write", "writable", "a binary file that is open for writing")


def check_input(name: str, value: Any) -> Any:
    """Return an open binary file that can be read by lines."""
    return _check_file(
        name, value, "readline", "readable", "a binary file that is open for reading"
    )


def _check_file(name: str, value: Any, method: str, predicate: str, allowed: str) -> Any:
    if isinstance(value, type | TextIOBase) or not callable(getattr(value, method, None)):
        refuse(name, allowed, value)
    if getattr(value, "closed", False):
        refuse(name, allowed, value)
    can = getattr(value, predicate, None)  # Objects that only look like files may have none.
    if callable(can) and not can():
        refuse(name, allowed, value)
    return value


def check_each(
    name: str, values: Any, check: Callable[[str, Any], T], *, what: str = "values"
) -> list[T]:
    """Return the checked elements of an iterable that is no mapping."""
    if isinstance(values, Mapping):
        refuse(name, f"a sequence of {what}", values)
    return [check(f"each of {name}", value) for value in iterate(name, values, what)]


def check_mapping(name: str, values: Any) -> Mapping[Any, Any]:
    """Return a mapping."""
    if not isinstance(values, Mapping):
        refuse(name, "a mapping", values)
    return values


def check_tags(name: str, tags: Any) -> Any:
    """Return tags that can be tested for membership. A text contains no tag."""
    if isinstance(tags, str | bytes | bytearray) or not isinstance(tags, Container):
        refuse(name, "a set of tags", tags)
    if isinstance(tags, Collection) and not isinstance(tags, range):
        for tag in tags:
            check_int(f"each of {name}", tag, 0, 255)
    return tags


def iterate(name: str, values: Any, what: str = "values") -> Iterator[Any]:
    """Return an iterator over ``values``. A text or bytes are one value, not several."""
    if not isinstance(values, Iterable) or isinstance(values, type | str | bytes | bytearray):
        refuse(name, f"a sequence of {what}", values)
    try:
        return iter(values)
    except ValueError:  # A closed file.
        refuse(name, f"a sequence of {what}", values)
