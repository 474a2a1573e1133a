"""The fast path of the liveness analysis, compared with its plain twin, the replay host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.toolkit_journal import Size, make
from journal import Reader
from journal.compaction import RetentionPolicy
from journal.compaction.frontier import find_frontier, survey_journal
from journal.compaction.liveness import analysis
from journal.compaction.liveness._native.fast_path import FAST_EFFECTS, FastEffect
from journal.compaction.liveness.analysis import LivenessAnalysis, LivenessResult
from journal.compaction.liveness.dependency_graph import DependencyGraph
from journal.errors import MalformedEvent
from journal.replay import ReplayError
from tests.support.compaction_histories import History, Story, histories, policies, write_story

Dependencies = dict[int, set[int]]
Outcome = tuple[LivenessResult, Dependencies] | tuple[type[Exception], str]


def analyse(path: Path, policy: RetentionPolicy, fast_effects: dict[int, FastEffect]) -> Outcome:
    """Return the result of a liveness analysis of a journal, or its error.

    The dependencies of the events that are not live are part of the result.
    """
    analyses: list[LivenessAnalysis] = []

    class RecordedAnalysis(LivenessAnalysis):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            analyses.append(self)

    with Reader(path) as reader, pytest.MonkeyPatch.context() as patch:
        survey = survey_journal(reader.blocks())
        frontier = find_frontier(survey, policy)
        patch.setattr(analysis, "FAST_EFFECTS", fast_effects)
        patch.setattr(analysis, "LivenessAnalysis", RecordedAnalysis)
        try:
            result = analysis.find_live_events(reader.blocks(), survey, frontier)
        except (MalformedEvent, ReplayError) as error:
            return type(error), str(error)
    (found,) = analyses
    return result, undecided_dependencies(found.graph)


def undecided_dependencies(graph: DependencyGraph) -> Dependencies:
    """Return the dependencies among the events that are not live."""
    found = {}
    for seq, needed in graph._edges.items():
        owners = set(needed if isinstance(needed, tuple) else (needed,))
        found[seq] = {owner for owner in owners - {seq} if owner >= 0 and owner not in graph.live}
    return {seq: owners for seq, owners in found.items() if owners}


def damage(story: Story, data: st.DataObject) -> Story:
    """Cut, extend or change the payload of an event that has a fast path."""
    indices = [index for index, (tag, _, _) in enumerate(story) if tag in FAST_EFFECTS]
    if not indices:
        return story
    index = data.draw(st.sampled_from(indices))
    tag, payload, time = story[index]
    at = data.draw(st.integers(0, len(payload)))
    new = data.draw(st.binary(max_size=3))
    rest = data.draw(st.sampled_from([b"", payload[at:], payload[at + len(new) :]]))
    return [*story[:index], (tag, payload[:at] + new + rest, time), *story[index + 1 :]]


@given(histories, policies, st.booleans(), st.data())
def test_the_fast_path_changes_no_result(
    made: History, policy: RetentionPolicy, is_damaged: bool, data: st.DataObject
) -> None:
    story = damage(made.story, data) if is_damaged else made.story
    with TemporaryDirectory() as name:
        path = write_story(Path(name) / "journal", story)
        assert analyse(path, policy, FAST_EFFECTS) == analyse(path, policy, {})


def test_most_events_of_a_service_take_the_fast_path(tmp_path: Path) -> None:
    make(tmp_path / "journal", Size(3000, 20, 2))
    counts: Counter[tuple[int, bool]] = Counter()

    def count(tag: int, effect: FastEffect) -> FastEffect:
        def counting(*arguments: object) -> bool:
            is_fast = effect(*arguments)  # type: ignore[arg-type]
            counts[tag, is_fast] += 1
            return is_fast

        return counting

    counting = {tag: count(tag, effect) for tag, effect in FAST_EFFECTS.items()}
    fast = analyse(tmp_path / "journal", RetentionPolicy(), counting)
    assert fast == analyse(tmp_path / "journal", RetentionPolicy(), {})
    for tag in FAST_EFFECTS:
        assert counts[tag, True] > 20 * counts[tag, False]
