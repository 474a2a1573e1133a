"""Positions of files and streams, and directory listings, as a snapshot stores them."""

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import InputStream, OpenDirectory, OpenFile, OutputStream
from journal.errors import NotResumable
from journal.events.paths import FileType
from journal.events.snapshots import DescriptorPositions, DirectoryListing
from journal.wasi_abi import DirectoryEntry

#: Largest stream position. A file position may be larger: reads and writes there fail.
STREAM_POSITION_MAX = 1 << 62

#: Directory entries that fit one event: a name has at most 255 bytes.
LISTING_COUNT_MAX = 1 << 15

_DescriptorWithPosition = InputStream | OutputStream | OpenFile


def capture_positions(context: CallContext) -> DescriptorPositions:
    """Return the guest's positions in its files and streams."""
    current = sorted(_find_descriptors_with_position(context).items())
    return DescriptorPositions(
        positions=tuple((fd, descriptor.position) for fd, descriptor in current),
        free=tuple(sorted(context.descriptors.free)),
    )


def apply_positions(context: CallContext, event: DescriptorPositions) -> None:
    """Restore the positions of ``event``; raises ``NotResumable`` if descriptors differ."""
    current = _find_descriptors_with_position(context)
    if [fd for fd, _ in event.positions] != sorted(current):
        raise NotResumable(
            f"the snapshot has positions of {len(event.positions)} descriptors, which do not match "
            f"the {len(current)} open descriptors of the guest"
        )
    if not context.descriptors.used.keys().isdisjoint(event.free):
        raise NotResumable("the snapshot lists open descriptors as free")
    context.descriptors.free = set(event.free)
    for fd, position in event.positions:
        descriptor = current[fd]
        if not isinstance(descriptor, OpenFile) and position > STREAM_POSITION_MAX:
            raise NotResumable(
                f"the snapshot has a stream position of {position}, more than the limit of "
                f"{STREAM_POSITION_MAX}"
            )
        descriptor.position = position


def _find_descriptors_with_position(context: CallContext) -> dict[int, _DescriptorWithPosition]:
    used = context.descriptors.used.items()
    return {
        fd: descriptor for fd, descriptor in used if isinstance(descriptor, _DescriptorWithPosition)
    }


def capture_listings(context: CallContext) -> list[DirectoryListing]:
    """Return the listings of directories that the guest is reading, by descriptor.

    Listings that are too long are omitted. A restored guest reads such a directory again.
    """
    return [
        _make_listing(fd, descriptor.listing)
        for fd, descriptor in sorted(context.descriptors.used.items())
        if isinstance(descriptor, OpenDirectory)
        and 0 < len(descriptor.listing) <= LISTING_COUNT_MAX
    ]


def _make_listing(fd: int, entries: list[DirectoryEntry]) -> DirectoryListing:
    return DirectoryListing(
        fd=fd,
        entries=tuple(entry.name.encode() for entry in entries),
        inodes=tuple(entry.inode for entry in entries),
        kinds=bytes(entry.filetype for entry in entries),
    )


def apply_listing(context: CallContext, event: DirectoryListing) -> None:
    """Restore a directory listing; raises ``NotResumable`` if the descriptor is no directory."""
    descriptor = context.descriptors.used.get(event.fd)
    if not isinstance(descriptor, OpenDirectory):
        raise NotResumable(
            f"the snapshot has a listing of descriptor {event.fd}, which is not an open directory"
        )
    try:
        descriptor.listing = [
            DirectoryEntry(name.decode(), inode, FileType(kind))
            for name, inode, kind in zip(event.entries, event.inodes, event.kinds, strict=True)
        ]
    except ValueError as error:
        raise NotResumable(
            f"the snapshot has an invalid listing of descriptor {event.fd}: {error}"
        ) from error
