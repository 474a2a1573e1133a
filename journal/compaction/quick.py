"""The events of files in memory that come in masses, played without making events of them.

Each function plays one and says so, or has done nothing, because the event is not as plain as most
are: then it is to be played as any other. What is played here is played as there.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from operator import add
from typing import TYPE_CHECKING, NamedTuple

from journal.compaction.ledger import BASE
from journal.compaction.tables import OwnedDescription, OwnedNumber
from journal.compaction.trees import Place, SpanDirectoryNode, SpanFile, SpanFileNode, SpanKeeper
from journal.events import descriptors, paths
from journal.events.paths import OpenFlags
from journal.replay.descriptors import POSITION_MAX
from journal.replay.refusing import COUNT_MAX
from journal.replay.table import OpenDirectory, OpenFile
from journal.replay.walk import NAME_SIZE_MAX

if TYPE_CHECKING:
    from journal.compaction.hosts import SpanHost

_WRITE = struct.Struct("<IQBI")
_OPEN = struct.Struct("<IIIHHQQI")
_TWO = struct.Struct("<II")
_RENAME = struct.Struct("<III")
_SIZE = struct.Struct("<I")
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = map(int, OpenFlags)
_SPECIAL = frozenset(("", ".", ".."))


class Writes(NamedTuple):
    """Writes to files, column by column; none is empty."""

    fds: list[int]
    starts: "array[int]"
    stops: "array[int]"


def writes_of(payloads: Sequence[bytes]) -> Writes | None:
    """What these FileDescriptorWrites write; None where they have to be looked at one by one."""
    if not payloads:
        return None
    try:
        # as one list: of so many tuples that are there at once the collector would take notice
        values = list(chain.from_iterable(map(_WRITE.unpack_from, payloads)))
    except struct.error:
        return None
    starts, sizes = values[1::4], values[3::4]
    if max(values[2::4]) > 1 or 0 in sizes:
        return None
    if list(map(add, sizes, repeat(_WRITE.size))) != list(map(len, payloads)):
        return None
    stops = list(map(add, starts, sizes))
    if max(stops) > POSITION_MAX:
        return None
    return Writes(values[::4], array("q", starts), array("q", stops))


def write(
    host: "SpanHost",
    fd: int,
    starts: "array[int]",
    stops: "array[int]",
    seqs: "array[int]",
    now: int,
) -> bool:
    """Play writes through one descriptor, one behind the other."""
    number = host.table.used.get(fd)
    if number is None or not isinstance(thing := number.description.thing, OpenFile):
        return False
    about, file = number.description, thing.file
    assert isinstance(about, OwnedDescription)
    assert isinstance(number, OwnedNumber)
    assert isinstance(file, SpanFile)
    host.ledger.seq = seqs[-1]
    file.put_all(starts, stops, seqs, now, number.by)
    about.position, about.positioned = stops[-1], seqs[-1]
    host.nothing_asked()
    return True


def _close(host: "SpanHost", seq: int, payload: bytes, now: int) -> bool:
    number = host.table.used.get(int.from_bytes(payload, "little"))
    if number is None or len(payload) != _SIZE.size:
        return False
    assert isinstance(number, OwnedNumber)
    about, thing = number.description, number.description.thing
    if not isinstance(thing, OpenFile) or number.by == BASE:
        return False
    host.seq = host.ledger.seq = seq
    host.ledger.tie(seq, number.by)
    host.ledger.tie(number.by, seq)
    del host.table.used[int.from_bytes(payload, "little")]
    about.numbers -= 1
    if not about.numbers:
        thing.file.close()
    host.nothing_asked()
    return True


def _duplicate(host: "SpanHost", seq: int, payload: bytes, now: int) -> bool:
    if len(payload) != _TWO.size:
        return False
    original, copied = _TWO.unpack(payload)
    used = host.table.used
    found = used.get(original)
    if found is None or copied in used or len(used) >= COUNT_MAX:
        return False
    if not isinstance(found.description.thing, OpenFile):
        return False
    assert isinstance(found, OwnedNumber)
    host.seq = seq
    ledger = host.ledger
    ledger.begin(seq)
    ledger.need(found.by)
    ledger.need(found.limited)
    found.description.numbers += 1
    used[copied] = OwnedNumber(found.description, 0, found.rights, seq, seq, seq)
    ledger.finish()
    host.nothing_asked()
    return True


def _open(host: "SpanHost", seq: int, payload: bytes, now: int) -> bool:
    if len(payload) < _OPEN.size:
        return False
    fd, dirfd, _, flags, fs_flags, base, inheriting, size = _OPEN.unpack_from(payload)
    used = host.table.used
    found = _place(host, dirfd, payload[_OPEN.size :])
    if found is None or size != len(payload) - _OPEN.size or fd in used or len(used) >= COUNT_MAX:
        return False
    keeper, (at, name), needs = found
    node = at.entries.get(name)
    if node is None:
        if not flags & _CREATE or not at.links:
            return False
    elif type(node) is not SpanFileNode or flags & (_EXCLUSIVE | _DIRECTORY):
        return False
    host.seq, ledger = seq, host.ledger
    ledger.begin(seq)
    ledger.need_all(needs)
    file = keeper.make_file(at, name, now) if node is None else keeper.open_file(at, name)
    if node is not None and flags & _TRUNCATE:
        file.set_size(0, now)
    about = OwnedDescription(OpenFile(file), fs_flags, 0, 1, seq, seq)
    used[fd] = OwnedNumber(about, 0, (base, inheriting), seq, seq, seq)
    ledger.finish()
    host.nothing_asked()
    return True


def _rename(host: "SpanHost", seq: int, payload: bytes, now: int) -> bool:
    if len(payload) < _RENAME.size:
        return False
    old_fd, new_fd, size = _RENAME.unpack_from(payload)
    middle = _RENAME.size + size
    behind = middle + _SIZE.size
    if int.from_bytes(payload[middle:behind], "little") != len(payload) - behind:
        return False
    old = _place(host, old_fd, payload[_RENAME.size : middle])
    new = _place(host, new_fd, payload[behind:])
    if old is None or new is None or old[0] is not new[0] or not new[1].at.links:
        return False
    keeper, source, needs = old
    _, target, more = new
    node, replaced = source.at.entries.get(source.name), target.at.entries.get(target.name)
    if type(node) is not SpanFileNode or type(replaced) not in (SpanFileNode, type(None)):
        return False
    host.seq, ledger = seq, host.ledger
    ledger.begin(seq)
    ledger.need_all(needs)
    ledger.need_all(more)
    ledger.need(source.at.names[source.name])
    keeper.move(source, target, now)
    ledger.finish()
    host.nothing_asked()
    return True


def _place(host: "SpanHost", fd: int, path: bytes) -> tuple[SpanKeeper, Place, list[int]] | None:
    """Where a path leads through plain directories; None where that takes more than names.

    With who keeps it, and who gave the descriptor and the names that lead there.
    """
    number = host.table.used.get(fd)
    if number is None or not isinstance(thing := number.description.thing, OpenDirectory):
        return None
    if len(path) > NAME_SIZE_MAX or b"\0" in path:
        return None
    try:
        names = str(path, "utf-8").split("/")
    except UnicodeDecodeError:
        return None
    if not _SPECIAL.isdisjoint(names):
        return None
    assert isinstance(number, OwnedNumber)
    at, keeper, needs, name = thing.directory.at, thing.directory.keeper, [number.by], names.pop()
    assert isinstance(at, SpanDirectoryNode)
    assert isinstance(keeper, SpanKeeper)
    for passed in names:
        inner = at.entries.get(passed)
        if not isinstance(inner, SpanDirectoryNode):
            return None
        needs.append(at.names[passed])
        at = inner
    return keeper, Place(at, name), needs


QUICK: dict[int, Callable[["SpanHost", int, bytes, int], bool]] = {
    descriptors.CloseFileDescriptor.tag: _close,
    descriptors.DuplicateFileDescriptor.tag: _duplicate,
    descriptors.OpenFileDescriptor.tag: _open,
    paths.PathRename.tag: _rename,
}
"""By the tags of the events that are played here, one by one."""
