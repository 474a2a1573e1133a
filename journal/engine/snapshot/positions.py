"""Where a guest stands in its files, streams and directories, as a snapshot keeps it."""

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import InputStream, OpenDirectory, OpenFile, OutputStream
from journal.engine.wasi_abi import DirectoryEntry
from journal.errors import NotResumable
from journal.events.paths import FileType
from journal.events.snapshots import DescriptorPositions, DirectoryListing

#: No stream is that long; a file's position may be any: reads and writes there are refused.
STREAM_POSITION_MAX = 1 << 62

#: Entries of a directory that fit one event: a name has 255 bytes at most.
LISTING_COUNT_MAX = 1 << 15

_Positioned = InputStream | OutputStream | OpenFile


def capture_positions(state: CallContext) -> DescriptorPositions:
    """Where the guest stands in its files and streams."""
    standing = sorted(_find_positioned(state).items())
    return DescriptorPositions(
        positions=tuple((fd, found.position) for fd, found in standing),
        free=tuple(sorted(state.descriptors.free)),
    )


def apply_positions(state: CallContext, event: DescriptorPositions) -> None:
    """Let the guest stand where ``event`` says; raises ``NotResumable`` if it fits others."""
    standing = _find_positioned(state)
    if [fd for fd, _ in event.positions] != sorted(standing):
        raise NotResumable(
            f"the snapshot has positions of {len(event.positions)} descriptors, and they are not "
            f"the {len(standing)} that the guest has open"
        )
    if not state.descriptors.used.keys().isdisjoint(event.free):
        raise NotResumable("the snapshot gives descriptors as free that are open")
    state.descriptors.free = set(event.free)
    for fd, position in event.positions:
        descriptor = standing[fd]
        if not isinstance(descriptor, OpenFile) and position > STREAM_POSITION_MAX:
            raise NotResumable(f"the snapshot has {position} as the position of a stream")
        descriptor.position = position


def _find_positioned(state: CallContext) -> dict[int, _Positioned]:
    used = state.descriptors.used.items()
    return {fd: found for fd, found in used if isinstance(found, _Positioned)}


def capture_listings(state: CallContext) -> list[DirectoryListing]:
    """What the guest saw in the directories that it has begun to read, by descriptor.

    One that is too long is left out: a guest that is restored sees the directory anew.
    """
    return [
        _make_listing(fd, found.listing)
        for fd, found in sorted(state.descriptors.used.items())
        if isinstance(found, OpenDirectory) and 0 < len(found.listing) <= LISTING_COUNT_MAX
    ]


def _make_listing(fd: int, entries: list[DirectoryEntry]) -> DirectoryListing:
    return DirectoryListing(
        fd=fd,
        entries=tuple(entry.name.encode() for entry in entries),
        inodes=tuple(entry.inode for entry in entries),
        kinds=bytes(entry.filetype for entry in entries),
    )


def apply_listing(state: CallContext, event: DirectoryListing) -> None:
    """Let the guest read on in a directory as it was; raises ``NotResumable`` if it is none."""
    descriptor = state.descriptors.used.get(event.fd)
    if not isinstance(descriptor, OpenDirectory):
        raise NotResumable(f"the snapshot has a listing of {event.fd}, which is no directory")
    try:
        descriptor.listing = [
            DirectoryEntry(name.decode(), inode, FileType(kind))
            for name, inode, kind in zip(event.entries, event.inodes, event.kinds, strict=True)
        ]
    except ValueError as error:
        raise NotResumable(f"the snapshot's listing of {event.fd} is none: {error}") from error
