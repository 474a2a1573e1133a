"""Option groups: options that stand together in several commands."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from typing import Any


def flatten(command: Callable[..., None]) -> Callable[..., None]:
    """Return ``command`` with the options of its groups as parameters of its own, as typer needs.

    A group is a keyword-only parameter whose type is a dataclass. Each field of the dataclass is an
    ``Annotated`` type and becomes one option.
    """
    signature = inspect.signature(command)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }
    flat: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        flat += map(to_parameter, fields(groups[name])) if name in groups else [parameter]

    @wraps(command)
    def flat_command(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        command(**values)

    flat_command.__signature__ = signature.replace(parameters=flat)  # type: ignore[attr-defined]
    return flat_command


def to_parameter(field: "Field[Any]") -> inspect.Parameter:
    """Return the parameter of a field of a group."""
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type
    )
