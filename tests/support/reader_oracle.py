"""Oracle of readers: expected events of a journal in each recovery mode, by the plain reader."""

from pathlib import Path

from journal.errors import JournalError
from journal.log import RecoveryMode
from journal.log.reader import Reader
from tests.support.plain_reader import Lost, NotReadable, Piece, Reading, Row, reading

Outcome = tuple[list[Row], bool]
"""Events before the first error, and whether an error came."""


def outcome(path: Path, mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL) -> Outcome:
    """Read a journal, and return its outcome. Errors of other libraries propagate."""
    rows: list[Row] = []
    try:
        with Reader(path, mode=mode) as reader:
            rows.extend(Row(*frame) for frame in reader.frames())
    except JournalError:
        return rows, True
    return rows, False


def expected(files: list[bytes]) -> dict[RecoveryMode, Outcome]:
    """Return the outcome that the format prescribes for these files, in each mode."""
    nothing: Outcome = ([], True)
    try:
        found = reading(*files)
    except NotReadable:
        return dict.fromkeys(RecoveryMode, nothing)
    if any(lost[:2] == (0, 0) and lost.size for lost in found.damage):
        # Without a segment header at its start a file is no journal. Salvage may still find events.
        return {
            **dict.fromkeys(RecoveryMode, nothing),
            RecoveryMode.SALVAGE: apply_mode(found, RecoveryMode.SALVAGE),
        }
    return {mode: apply_mode(found, mode) for mode in RecoveryMode}


def apply_mode(found: Reading, mode: RecoveryMode) -> Outcome:
    """Return the outcome of a mode, given the plain reading."""
    if mode is RecoveryMode.SALVAGE:
        return found.rows, False
    if mode is RecoveryMode.STRICT:
        wrong: list[Lost | Piece] = [*found.torn, *found.damage]
        if not wrong:
            return found.rows, False
        return found.rows_before(min(wrong, key=lambda piece: (piece.file, piece.offset))), True
    for lost in found.damage:
        if mode is RecoveryMode.POINT_IN_TIME and not lost.acknowledged and not lost.rotten:
            return found.rows_before(lost), False
        if lost.costs:
            return found.rows_before(lost), True
    return found.rows, False
