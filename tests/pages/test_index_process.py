"""Page indexes in forked children, and page indexes that nobody closed."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from journal import WrongProcess
from journal.events.memory import MemoryPages, PageKind
from journal.log import Writer
from journal.pages.page_index import PageIndex
from tests.support.forks import error_of, run_in_child
from tests.support.page_histories import KEY, content

PAGES = MemoryPages(
    memory=0, size=1 << 20, numbers=(0,), kinds=bytes([PageKind.WHOLE]), data=content(1)
)


def test_a_child_cannot_use_an_index_and_its_parent_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path) as writer, PageIndex(path, key=KEY) as index:
        writer.append(PAGES)
        writer.sync()
        index.rebuild()
        index._entries.flush()  # The entries are in the file of LMDB.

        def use() -> list[BaseException | None]:
            calls = (
                index.open,
                index.rebuild,
                lambda: index.set_path(path),
                lambda: index.begin_snapshot(1),
                lambda: index.deduplicate(1, PAGES),
                lambda: index.end_snapshot(1),
                index.save,
                index.check,
            )
            errors = [error_of(call) for call in (*calls, index.close, lambda: index.__exit__())]
            gc.collect()
            return errors

        *refused, close, leave = run_in_child(use)
        assert [type(error) for error in refused] == [WrongProcess] * len(refused)
        assert (close, leave) == (None, None)
        assert not index.path.exists()
        check = index.check()
        assert (check.entries, check.wrong, check.missing) == (1, 0, 0)
    assert index.path.exists()


def test_an_index_that_nobody_closed_is_saved_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        writer.append(PAGES)

    def build() -> None:
        PageIndex(path, key=KEY).rebuild()

    with pytest.warns(ResourceWarning, match=r"the page index of .*a\.journal was not closed"):
        build()
    with PageIndex(path, key=KEY) as index:
        assert index.open(size_max=0)
