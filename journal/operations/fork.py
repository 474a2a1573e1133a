"""Fork: new journals that begin with the events of another journal, without a copy of them."""

import os
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, overload

from journal._arguments import check_flag, check_int, check_optional, check_path
from journal.errors import NotResumable
from journal.events.codec import encode
from journal.events.process import ParentLink
from journal.format import block_encoder
from journal.format.block import BLOCK_HEADER_SIZE, Block
from journal.format.block_header import BlockPlacement
from journal.format.block_slice import slice_block
from journal.format.columns import Frames
from journal.log.commit_policy import CommitPolicy
from journal.log.fork_search import ForkPlace, find_fork_place
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.writer import Writer, create_child
from journal.operations.reseeding import make_reseeded
from journal.rewrite.block_copier import check_new_journal
from journal.snapshots.catalog import list_snapshots

FORK_COUNT_MAX = 1_000_000
"""Maximum number of children that one call creates."""


class Fork(NamedTuple):
    """A new journal: a child of the journal with the id ``parent`` after its event ``seq``.

    Importable as ``journal.operations.Fork``.
    The child shares ``shared_files`` files with its parent. Other bytes of the parent, if
    ``is_copied``, were copied, because a hard link to them was not possible.
    """

    path: Path
    seq: int
    parent: bytes
    shared_files: int
    is_copied: bool


@overload
def fork(
    path: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    at: int | None = None,
    count: None = None,
    reseed: bool = True,
) -> Fork: ...
@overload
def fork(
    path: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    at: int | None = None,
    count: int,
    reseed: bool = True,
) -> list[Fork]: ...
def fork(
    path: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    at: int | None = None,
    count: int | None = None,
    reseed: bool = True,
) -> Fork | list[Fork]:
    """Create a journal ``into`` that continues the journal ``path`` after its event ``at``.

    The child is a directory. It shares the bytes of its parent by hard links, so its size on the
    disk does not depend on that of its parent, and neither journal needs the other one afterwards.
    Sequence numbers, times and the id do not change. A ParentLink event follows. The default of
    ``at`` is the newest snapshot from which a guest can be resumed.

    With ``count``, that many children are created and returned as a list; ``into`` gets ``-1``,
    ``-2``, … before its suffix. Each child gets its name when it is complete and durable.

    With ``reseed``, a child of a recorded process gets a Reseeded event: its clocks count the time
    since the fork, and its generation file, if it has one, a new content.

    Where a hard link is not possible, as on another file system, the bytes are copied. A journal
    that is being written can be forked; its writer is not disturbed.

    Raises OptionError if ``path`` has no such event or a child exists already, NotResumable if
    there is no snapshot to resume from, and the errors of reading ``path``.
    """
    parent, target = check_path("path", path), check_path("into", into)
    check_optional("at", at, check_int)
    check_optional("count", count, check_int, 1, FORK_COUNT_MAX)
    children = [target] if count is None else number_paths(target, count)
    for child in children:
        check_new_journal(child, [parent])
    seq = find_newest_resumable(parent) if at is None else at
    place = find_fork_place(parent, seq)
    reseed = check_flag("reseed", reseed) and _records_process(parent)
    forks = [create_fork(place, child, reseed=reseed) for child in children]
    return forks[0] if count is None else forks


def find_newest_resumable(path: Path) -> int:
    """Return the sequence number of the newest snapshot from which a guest can be resumed.

    Raises NotResumable if there is none.
    """
    with Reader(path) as reader:
        infos = list_snapshots(reader, count_pages=False)
        seqs = [info.seq for info in infos if info.resumable]
    if not seqs:
        raise NotResumable(f"{path} has no resumable snapshot: choose the event to fork at")
    return seqs[-1]


def create_fork(place: ForkPlace, child: Path, *, reseed: bool) -> Fork:
    """Create one child at ``child`` that continues a journal at ``place``."""
    with open_fork(place, child, CommitPolicy.NONE, reseed=reseed) as writer:
        writer.publish()
    shared = total = 0
    if place.point is not None:
        shared, total = place.point.count_shared(child), len(place.point.files)
    is_copied = shared < total or not total
    return Fork(child, place.seq, place.journal_id, shared, is_copied=is_copied)


def open_fork(
    place: ForkPlace,
    child: Path,
    commit: CommitPolicy,
    *,
    reseed: bool,
    roll: RollPolicy | None = None,
    clock: Callable[[], int] | None = None,
) -> Writer:
    """Return the writer of a new child that continues a journal at ``place``.

    The child has its ParentLink event, and is not published yet. ``reseed`` is for children of a
    recorded process. ``clock`` is that of :class:`Writer`.
    """
    point = place.point
    if point is not None:
        writer = create_child(child, point, commit=commit, roll=roll, clock=clock)
    else:
        identity = place.journal_id
        writer = Writer(child, publish=False, commit=commit, journal_id=identity, clock=clock)
    try:
        if point is None:
            _copy_events(place, writer)
        elif place.rest is not None:
            writer.append_block(place.rest)
        writer.append_block(_make_link(place))
        if reseed:
            writer.append(make_reseeded())
    except BaseException:
        writer.close()
        raise
    return writer


def _make_link(place: ForkPlace) -> Block:
    """Return a block with the ParentLink. It has the time of the event before it.

    > Why? Nothing ran in between.
    """
    seq = place.seq
    link = ParentLink(journal=place.journal_id, seq=seq, hash=place.block_hash)
    frames = Frames([link.tag], [encode(link)], [place.time])
    data, header = block_encoder.encode(BlockPlacement(0, seq + 1, 0, 0, 0, 0), frames)
    return Block(header, data[BLOCK_HEADER_SIZE:], seq + 1, 0)


def _copy_events(place: ForkPlace, writer: Writer) -> None:
    with Reader(place.path) as reader:
        for block in reader.blocks(stop=place.seq + 1):
            writer.append_block(slice_block(block, 0, bisect_right(block.seqs, place.seq)))


def _records_process(path: Path) -> bool:
    with Reader(path) as reader:
        return reader.records_process()


def number_paths(path: Path, count: int) -> list[Path]:
    """Return ``count`` paths: ``path`` with ``-1``, ``-2``, … before its suffix."""
    return [path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(1, count + 1)]
