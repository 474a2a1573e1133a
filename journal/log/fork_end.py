"""Place of the last event of a journal that is being written, found without reading its blocks."""

from contextlib import closing, suppress

from journal.errors import JournalError
from journal.fs.byte_source import ByteSource
from journal.log import segment_files
from journal.log.block_locator import BlockLocator
from journal.log.fork_point import ForkPoint
from journal.log.fork_search import ForkPlace, open_all
from journal.log.seal_keys import choose_writing_key
from journal.log.segment_files import SegmentFiles
from journal.log.segment_writer import SegmentWriter
from journal.log.writer import Writer


def find_end(writer: Writer, seq: int) -> ForkPlace | None:
    """Return the place of event ``seq`` if it is the last event of an open writer, else None.

    Nothing is synced. The place is that of ``find_fork_place``, which finds all others too: also
    those in a sealed journal, after a fail-over of the writer, or in a segment without a block of
    it.
    """
    with (
        suppress(JournalError),
        closing(SegmentFiles(writer.path)) as files,
        # No sync runs meanwhile: the writer knows each error of the disk that was reported to it
        # before the files are opened here.
        writer._sync.exclusive(),
        writer._pending.lock,
    ):
        return _find_end(writer, files, seq)
    return None


def _find_end(writer: Writer, files: SegmentFiles, seq: int) -> ForkPlace | None:
    pending = writer._pending
    pending.check_writes()
    if pending.next_seq != seq + 1:
        return None
    pending.write()
    appender = pending.appender
    file, last = appender.file, appender.last_block
    if last is None or not last.frame_count or appender.next_seq != seq + 1:
        return None
    if file.link != (last.end, last.hash) or file.segment_offset or file.header.is_sealed:
        return None
    opened = _open_files(files, file)
    if opened is None or choose_writing_key(None) is not None:
        return None
    point = ForkPoint(
        opened, file.header, file.link, appender.shift, seq + 1, last.time_last, is_durable=False
    )
    journal_id, time = file.header.journal_id, last.time_last
    return ForkPlace(writer.path, seq, journal_id, point, None, last.body_hash, time)


def _open_files(files: SegmentFiles, file: SegmentWriter) -> dict[str, ByteSource] | None:
    """Open the files of a journal up to the one that is written, None if that is another one.

    Returns None too if not each file continues the one before it.
    """
    names = files.names()
    if not files.is_directory:
        opened = open_all(files, names)
    elif file.path.name not in names:
        return None
    else:
        names = names[: names.index(file.path.name) + 1]
        if len(names) > 1 and not BlockLocator(files).is_chain(names):
            return None
        opened = open_all(files, names)
    last = opened[names[-1] or segment_files.segment_name(0)]
    return opened if file.is_in(last.descriptor) else None
