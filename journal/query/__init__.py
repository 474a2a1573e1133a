"""Query language of ``--where``: parser, compiler, and evaluation block by block."""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.query.fields import Vocabulary
    from journal.query.literals import Duration, Moment, MomentBase
    from journal.query.parser import And, BooleanField, Comparison, Not, Or, parse
    from journal.query.selection import Query

_MODULES = {
    "And": "query.parser",
    "BooleanField": "query.parser",
    "Comparison": "query.parser",
    "Duration": "query.literals",
    "Moment": "query.literals",
    "MomentBase": "query.literals",
    "Not": "query.parser",
    "Or": "query.parser",
    "Query": "query.selection",
    "Vocabulary": "query.fields",
    "parse": "query.parser",
}
"""The modules of the public names."""

__all__ = [
    "And",
    "BooleanField",
    "Comparison",
    "Duration",
    "Moment",
    "MomentBase",
    "Not",
    "Or",
    "Query",
    "Vocabulary",
    "parse",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
