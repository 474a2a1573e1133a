"""Hypothesis strategies of query expressions."""

from __future__ import annotations

from hypothesis import strategies as st

from journal.query import fields as operands
from journal.query.fields import TypeCategory
from journal.query.literals import Duration, JournalTimes, Literal, Moment, MomentBase
from journal.query.parser import And, BooleanField, Comparison, Expression, Not, Or

CLOCK = JournalTimes(1_000_000_000_000_000, 1_000_000_060_000_000)


WORDS = st.sampled_from(
    ["", "a", "b/c", "tmp", "tmp/x", "\n\x1b\"'\\", "\\d+", "é\u2028", "x" * 60]
)


NUMBERS = st.integers(-5, 70) | st.sampled_from([1 << 16, (1 << 64) - 1, 1000])


MOMENTS = st.builds(Moment, st.sampled_from(MomentBase), st.integers(0, 70_000_000)) | st.just(
    Moment(MomentBase.EPOCH, CLOCK.first + 5)
)


LITERALS: dict[TypeCategory, st.SearchStrategy[Literal]] = {
    TypeCategory.NUMBER: NUMBERS | st.builds(Duration, st.integers(0, 1000)),
    TypeCategory.TIME: MOMENTS,
    TypeCategory.TEXT: WORDS,
    TypeCategory.BYTES: WORDS | st.binary(max_size=4),
    TypeCategory.ADDRESS: st.ip_addresses().map(str),
    TypeCategory.FLAG: st.booleans(),
    TypeCategory.MEMBER: st.integers(0, 5),
}


OPERATORS = {
    TypeCategory.NUMBER: ("==", "!=", "<", "<=", ">", ">=", "in"),
    TypeCategory.TIME: ("==", "!=", "<", "<=", ">", ">=", "in"),
    TypeCategory.TEXT: ("==", "!=", "in", "glob"),
    TypeCategory.BYTES: ("==", "!=", "in", "glob"),
    TypeCategory.ADDRESS: ("==", "!=", "in"),
    TypeCategory.FLAG: ("==", "!="),
    TypeCategory.MEMBER: ("==", "!=", "<", "in"),
}


GLOBS = st.sampled_from(["*", "**", "tmp/*", "?", "", "[a-c]*", "**/x", "\\*", "/t**"])


@st.composite
def comparisons(draw: st.DrawFn) -> Expression:
    """Generate a valid comparison."""
    name = draw(st.sampled_from(operands.BUILT_IN.list_names()))
    sort = draw(st.sampled_from(sorted(operands.find_types(name, operands.BUILT_IN), key=repr)))
    if sort.category is TypeCategory.FLAG and draw(st.booleans()):
        return BooleanField(name)
    operator = draw(st.sampled_from(OPERATORS[sort.category]))
    if operator == "glob":
        return Comparison(name, operator, (draw(GLOBS),))
    one = LITERALS[sort.category]
    if sort.members is not None:
        one |= st.sampled_from([member.name for member in sort.members]) if operator != "<" else one
    if name in ("kind", "group"):
        one = st.sampled_from(sorted(operands.KINDS if name == "kind" else operands.GROUPS))
    if sort.is_optional and operator in ("==", "!=", "in"):
        one |= st.none()
    if operator == "in":
        return Comparison(name, operator, tuple(draw(st.lists(one, min_size=1, max_size=3))))
    return Comparison(name, operator, (draw(one),))


def trees() -> st.SearchStrategy[Expression]:
    """Generate a valid expression."""

    def more(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        some = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.builds(Not, inner) | st.builds(And, some) | st.builds(Or, some)

    return st.recursive(comparisons(), more, max_leaves=8)
