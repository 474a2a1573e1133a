"""Moments of a journal, as a user writes them: an event, a time or a snapshot."""

import os
import re
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from journal._arguments import check_path, check_text
from journal.errors import OptionError
from journal.format.frame import SEQ_MAX
from journal.log.reader import Reader
from journal.log.segment_files import SegmentFiles
from journal.log.summary import find_last_block
from journal.query.literals import TIME_EXAMPLES, JournalTimes, Moment, try_parse_moment
from journal.snapshots.catalog import list_snapshots

_DIGITS_MAX = len(str(SEQ_MAX))
_SNAPSHOT = re.compile(r"snapshot:(-?[1-9][0-9]{0,18})", re.ASCII)


class SnapshotNumber(NamedTuple):
    """A snapshot by its place: from 1 for the first, or from -1 for the newest."""

    number: int


def parse(text: str) -> int | SnapshotNumber | Moment:
    """Return the sequence number, snapshot or time that a text names.

    The text is a sequence number such as ``8``, or ``snapshot:3`` for the third snapshot and
    ``snapshot:-1`` for the newest one, or a time such as ``2026-11-21T10:00`` (UTC), ``-5m``
    (before the last event) or ``+90s`` (after the first event). Raises OptionError.
    """
    text = check_text("moment", text).strip()
    if text.isascii() and text.isdigit():
        if len(text) > _DIGITS_MAX or int(text) > SEQ_MAX:
            raise OptionError(f"event {text[:40]} is too large: the limit is {SEQ_MAX}")
        return int(text)
    if match := _SNAPSHOT.fullmatch(text):
        return SnapshotNumber(int(match[1]))
    time = try_parse_moment(text)
    if time is None:
        raise OptionError(
            f"{text[:80]!r} is not a moment: write the number of an event, snapshot:N, or a time "
            f"such as {TIME_EXAMPLES}"
        )
    return time


def find_event(path: str | os.PathLike[str], moment: int | SnapshotNumber | Moment) -> int:
    """Return the sequence number of the event at a moment of a journal.

    At a time, this is the last event that is not later. Raises OptionError if there is none.
    """
    path = check_path("path", path)
    if isinstance(moment, SnapshotNumber):
        return _find_snapshot(path, moment.number)
    return _find_time(path, moment) if isinstance(moment, Moment) else moment


def _find_snapshot(path: os.PathLike[str], number: int) -> int:
    with Reader(path) as reader:
        seqs = [info.seq for info in list_snapshots(reader, count_pages=False)]
    if abs(number) > len(seqs):
        raise OptionError(f"{path} has no snapshot:{number}: it has {len(seqs)} snapshots")
    return seqs[number - 1 if number > 0 else number]


def _find_time(path: os.PathLike[str], moment: Moment) -> int:
    """Return the last event whose time is not after ``moment``. Only its block is read."""
    with Reader(path) as reader, closing(SegmentFiles(path)) as files:
        summary = reader.summary()
        limit = JournalTimes(summary.first_time, summary.last_time).resolve(moment)
        block = find_last_block(files, limit) if summary.events else None
        if block is None:
            raise OptionError(f"{path} has no event at {moment} or earlier")
        frames = islice(reader.frames(block.first_seq), block.header.frame_count)
        return max(frame.seq for frame in frames if frame.time <= limit)
