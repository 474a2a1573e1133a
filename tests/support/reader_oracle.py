"""What a reader gives of a journal in each mode, and what the plain reading says it must give."""

from pathlib import Path

from journal.errors import JournalError
from journal.log import RecoveryMode
from journal.log.reader import Reader
from tests.support.plain_reader import Lost, NotReadable, Piece, Reading, Row, reading

Outcome = tuple[list[Row], bool]
"""The events up to the first error, and whether there was one."""


def outcome(path: Path, mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL) -> Outcome:
    """Read a journal; any error that is none of ours passes through."""
    rows: list[Row] = []
    try:
        with Reader(path, mode=mode) as reader:
            rows.extend(Row(*frame) for frame in reader.frames())
    except JournalError:
        return rows, True
    return rows, False


def expected(files: list[bytes]) -> dict[RecoveryMode, Outcome]:
    """Say what the format says of these files, in each mode."""
    nothing: Outcome = ([], True)
    try:
        found = reading(*files)
    except NotReadable:
        return dict.fromkeys(RecoveryMode, nothing)
    if any(lost[:2] == (0, 0) and lost.size for lost in found.damage):
        # what does not begin as a journal is none, but something may be saved
        return {
            **dict.fromkeys(RecoveryMode, nothing),
            RecoveryMode.SALVAGE: apply_mode(found, RecoveryMode.SALVAGE),
        }
    return {mode: apply_mode(found, mode) for mode in RecoveryMode}


def apply_mode(found: Reading, mode: RecoveryMode) -> Outcome:
    """Say what a mode makes of a plain reading."""
    if mode is RecoveryMode.SALVAGE:
        return found.rows, False
    if mode is RecoveryMode.STRICT:
        wrong: list[Lost | Piece] = [*found.torn, *found.damage]
        if not wrong:
            return found.rows, False
        return found.rows_before(min(wrong, key=lambda piece: (piece.file, piece.offset))), True
    for lost in found.damage:
        if mode is RecoveryMode.POINT_IN_TIME and not lost.acknowledged:
            return found.rows_before(lost), False
        if lost.costs:
            return found.rows_before(lost), True
    return found.rows, False
