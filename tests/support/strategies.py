"""Hypothesis strategies of events, derived from the constructs of their layouts."""

import os
from collections.abc import Callable
from typing import Any

import construct as cs
from hypothesis import strategies as st

from journal.events import BY_TAG
from journal.events.definition import Event
from journal.events.wire_types import (
    DURATION,
    FLAG,
    GUEST_PATH,
    HOST_PATH,
    IP_ADDRESS,
    IPV4,
    IPV6,
    NANOSECONDS,
    Enumerated,
    ListOf,
    OptionalOf,
    RecordOf,
    TupleOf,
    decode_path,
)

Values = st.SearchStrategy[Any]
ITEMS_MAX = 4
LEAVES: list[tuple[cs.Construct, Values]] = [
    (FLAG, st.booleans()),
    (GUEST_PATH, st.binary().map(decode_path)),
    (HOST_PATH, st.binary().map(os.fsdecode)),
    (DURATION, st.integers(0, 2**64 * NANOSECONDS - 1)),
    (IPV4, st.ip_addresses(v=4)),
    (IPV6, st.ip_addresses(v=6)),
    (IP_ADDRESS, st.ip_addresses()),
]


def every_event() -> st.SearchStrategy[Event]:
    """Return a strategy of all events of the format."""
    return st.sampled_from(sorted(BY_TAG)).flatmap(lambda tag: events_of(BY_TAG[tag]))


def events_of(cls: type[Event]) -> st.SearchStrategy[Event]:
    """Return a strategy of the events of one kind."""
    fields = {named.name: values_of(named.subcon) for named in cls.layout.subcons}
    return st.builds(cls, **fields)


def values_of(con: cs.Construct) -> Values:
    """Return a strategy of the Python values that ``con`` can build."""
    for leaf, values in LEAVES:
        if con is leaf:
            return values
    for shape, values_like in SHAPES:
        if isinstance(con, shape):
            return values_like(con)
    raise TypeError(f"no values are known for {con}")


def integers(con: cs.FormatField) -> Values:
    """Return a strategy of the integers of a field. Signed codes of ``struct`` are lower case."""
    bits = 8 * con.sizeof()
    if con.fmtstr[-1].islower():
        return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(0, 2**bits - 1)


SHAPES: list[tuple[type[cs.Construct], Callable[[Any], Values]]] = [
    (Enumerated, lambda con: st.sampled_from(con.members)),
    (RecordOf, lambda con: st.builds(con.kind, **{k: values_of(v) for k, v in con.fields.items()})),
    (TupleOf, lambda con: st.tuples(*map(values_of, con.values))),
    (OptionalOf, lambda con: st.none() | values_of(con.subcon)),
    (ListOf, lambda con: st.lists(values_of(con.subcon), max_size=ITEMS_MAX).map(tuple)),
    (cs.FormatField, integers),
    (cs.Bytes, lambda con: st.binary(min_size=con.length, max_size=con.length)),
    (cs.StringEncoded, lambda con: st.text()),
    (cs.Prefixed, lambda con: st.binary()),
]
