# mypy: disable-error-code="arg-type"
"""Expressions that a caller builds by hand: Query checks the whole tree."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.errors import OptionError
from journal.query import And, BooleanField, Comparison, Not, Or

SEQ: Any = Comparison("seq", "==", (1,))
WRONG_TREES: list[Any] = [
    7,
    And(()),
    And([SEQ, SEQ]),
    And(("x", SEQ)),
    Or((SEQ, None)),
    Not("x"),
    Not(Not(And((SEQ, 7)))),
    BooleanField(None),
    Comparison(7, "==", (1,)),
    Comparison("seq", "~", (1,)),
    Comparison("seq", [], (1,)),
    Comparison("seq", "==", ()),
    Comparison("seq", "==", [1]),
    Comparison("seq", "==", (object(),)),
    reduce(lambda tree, _: Not(tree), range(5000), SEQ),
]


@pytest.mark.parametrize("tree", WRONG_TREES, ids=lambda tree: type(tree).__name__)
def test_a_wrong_tree_is_refused(tree: Any) -> None:
    with pytest.raises(OptionError) as caught:
        journal.Query(where=tree)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tree",
    [
        BooleanField("no_such_field"),
        BooleanField("seq"),
        Comparison("no_such_field", "==", (1,)),
        Comparison("seq", "==", ("x",)),
        Comparison("seq", "glob", (1,)),
        Comparison("path", "matches", (b"(",)),
        Comparison("path", "matches", ("(",)),
        Comparison("kind", "<", (1, 2)),
        Comparison("seq == 1 or tag", "==", (1,)),
        And((SEQ,)),
        Comparison("time", "==", (None,)),
    ],
    ids=str,
)
def test_a_tree_without_meaning_is_refused(tmp_path: Path, tree: Any) -> None:
    with journal.Writer(tmp_path / "a.journal") as writer:
        writer.append(journal.events.core.ProcessExit(exit_code=0))
    with pytest.raises(OptionError):
        journal.filter(tmp_path / "a.journal", tmp_path / "b.journal", journal.Query(where=tree))
    assert not (tmp_path / "b.journal").exists()


def test_a_tree_of_the_deepest_nesting_is_evaluated(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a.journal") as writer:
        writer.append(journal.events.core.ProcessExit(exit_code=0))
    tree: Any = reduce(lambda inner, _: Not(inner), range(39), SEQ)
    result = journal.filter(tmp_path / "a.journal", None, journal.Query(where=tree))
    assert result.events == 1  # The number of negations is odd.
