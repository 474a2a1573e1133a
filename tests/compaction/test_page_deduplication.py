"""Page deduplication with a full or failing disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from journal.compaction.merge import page_deduplication

PAGE = b"\1" * 4096


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_is_another_thing_than_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refused(*_: object) -> int:
        raise OSError(error, "refused on purpose")

    pool = page_deduplication.PagePool(tmp_path, lambda seq, place: None)
    monkeypatch.setattr(os, "pwrite", refused)
    if error == errno.EIO:
        with pytest.raises(OSError, match="refused on purpose"):
            pool.find((1, 0), PAGE, is_stored=False)
    else:
        assert pool.find((1, 0), PAGE, is_stored=False) is None
        monkeypatch.undo()
        assert pool.find((2, 0), PAGE, is_stored=False) is None, "there was no room for it"
    pool.close()
