"""Compaction: what is left plays to the same states, at the snapshots kept and at the end."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given

from journal.compaction import Policy
from tests.compacted import Story, check, frames_of, histories, policies, write_story


@given(histories, policies)
def test_what_is_left_plays_to_the_same_states(story: Story, policy: Policy) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write_story(folder / "source", story)
        check(source, folder / "target", policy)
        again = check(folder / "target", folder / "again", policy)
        assert frames_of(folder / "again") == frames_of(folder / "target")
        assert not any(kind.dropped_events for kind in again.kinds)
