"""Compaction of random histories: equal states at the kept snapshots and at the end."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given

from journal.compaction import RetentionPolicy
from journal.operations.sequence_gaps import find_last_gap
from tests.support.compaction_histories import (
    History,
    check,
    frames_of,
    histories,
    policies,
    write_story,
)


@example(History(84482, 192, 15), RetentionPolicy(1, keep_within_seconds=0.01))
@example(
    History(198, 92, 5), RetentionPolicy(1, keep_within_seconds=0.01)
)  # truncated, then extended
@given(histories, policies)
def test_a_compacted_journal_plays_to_the_same_states(
    made: History, policy: RetentionPolicy
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write_story(folder / "source", made.story)
        check(source, folder / "target", policy)
        again = check(folder / "target", folder / "again", policy)
        assert frames_of(folder / "again") == frames_of(folder / "target")
        assert not any(kind.dropped_events for kind in again.kinds)


@pytest.mark.deep
@given(histories, policies)
def test_the_last_number_that_is_missing_is_found(made: History, policy: RetentionPolicy) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write_story(folder / "source", made.story)
        check(source, folder / "target", policy)
        seqs = [frame.seq for frame in frames_of(folder / "target")]
        for upto in (0, 1, len(made.story) // 2, len(made.story)):
            missing = set(range(seqs[0], min(upto, seqs[-1]))) - set(seqs)
            assert find_last_gap(folder / "target", upto) == max(missing, default=-1)
            assert find_last_gap(source, upto) == -1
