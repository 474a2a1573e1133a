"""Everything that can go wrong with a journal.

* JournalError
  + FormatError            the bytes at an offset are not what the format says
    - NotAJournal          the file does not begin with a segment header
    - UnsupportedVersion   a version or a feature that this reader does not know
    - TornBlock            the file ends inside a block; normal after a crash
    - DamagedJournal       bytes were lost where whole blocks stand behind them
      . CorruptBlock       a whole block is present and its bytes are wrong
      . MissingEvents      blocks that must have been there are not
      . LostAcknowledged   either of these, and a sync had promised what is lost
    - MalformedEvent       the hashes hold and the payload still does not fit its layout
    - UnknownEvent         a tag this version does not know
    - LimitExceeded        a size, a count or a length is above a named limit
  + JournalLocked          another process is writing this journal
  + StorageError           the operating system refused a write or a sync
  + OptionError            an option of the caller makes no sense
    - ExpressionError      a question about events that is none, and where in it
  + EngineError            a guest could not be run
    - ModuleRefused        the module is invalid, or asks for what is not there
    - ModuleMismatch       the journal belongs to another module
    - EngineMismatch       this engine cannot give the run that the journal has
    - NotResumable         the journal does not hold what a resume needs
    - Divergence           a replay said something else than the journal
    - OutputLost           an output could not be delivered to its target
"""


class JournalError(Exception):
    """Base of all errors this package raises on purpose: one sentence each."""


class FormatError(JournalError):
    """The bytes at ``offset`` are not what the format says.

    ``file`` names the segment file of a journal that is a directory, and is empty else.
    """

    def __init__(self, reason: str, offset: int = 0, file: str = "") -> None:
        super().__init__(reason, offset, file)
        self.reason = reason
        self.offset = offset
        self.file = file

    def __str__(self) -> str:
        place = f" of {self.file}" if self.file else ""
        return f"{self.reason} at offset {self.offset}{place}"


class NotAJournal(FormatError):
    """The file does not begin with a segment header."""


class UnsupportedVersion(FormatError):
    """A version of the format, or a feature in it, that this reader does not know."""


class TornBlock(FormatError):
    """The file ends inside a block, as it does after a crash."""


class DamagedJournal(FormatError):
    """Bytes were lost where whole blocks stand behind them.

    ``size`` bytes at ``offset`` are lost, and with them the events ``first_seq`` to ``last_seq``
    (none when ``last_seq < first_seq``). Reading can go on from ``last_seq + 1``.
    """

    acknowledged = False
    """Whether a later block knew what is lost to be durable."""

    def __init__(
        self,
        reason: str,
        offset: int = 0,
        *,
        size: int = 0,
        first_seq: int = 0,
        last_seq: int = -1,
        file: str = "",
    ) -> None:
        super().__init__(reason, offset, file)
        self.size = size
        self.first_seq = first_seq
        self.last_seq = last_seq


class CorruptBlock(DamagedJournal):
    """A whole block is present and its bytes are wrong."""


class MissingEvents(DamagedJournal):
    """Blocks that must have been there are not."""


class LostAcknowledged(DamagedJournal):
    """Bytes are lost that a sync had promised to keep."""

    acknowledged = True


class MalformedEvent(FormatError):
    """The hashes hold, and the payload still does not fit its event's layout."""


class UnknownEvent(FormatError):
    """A tag that this version of the format does not define."""


class LimitExceeded(FormatError):
    """A size, a count or a length is above a named limit."""


class JournalLocked(JournalError):
    """Another process is writing this journal."""


class StorageError(JournalError):
    """The operating system refused a write or a sync.

    ``first_seq_lost`` is the number of the first event that is not known to be durable.
    """

    def __init__(self, reason: str, first_seq_lost: int) -> None:
        super().__init__(f"{reason}; events from number {first_seq_lost} on are not durable")
        self.reason = reason
        self.first_seq_lost = first_seq_lost


class OptionError(JournalError):
    """An option of the caller makes no sense."""


class ExpressionError(OptionError):
    """A question about events that is none: ``reason`` says why, ``position`` where in ``text``."""

    def __init__(self, reason: str, text: str, position: int) -> None:
        super().__init__(f"{reason}, at column {position + 1}")
        self.reason = reason
        self.text = text
        self.position = position


class EngineError(JournalError):
    """A guest could not be run."""


class ModuleRefused(EngineError):
    """The module is invalid, or asks for what is not there."""


class ModuleMismatch(EngineError):
    """The journal belongs to another module."""


class EngineMismatch(EngineError):
    """This engine cannot give the run that the journal has."""


class NotResumable(EngineError):
    """The journal does not hold what a resume needs."""


class Divergence(EngineError):
    """A replay said something else than the journal.

    ``seq`` is the event's number, ``expected`` what the journal has there, ``actual`` what the
    guest did, ``backtrace`` where in the guest, innermost function first.
    """

    def __init__(self, seq: int, expected: str, actual: str, backtrace: str = "") -> None:
        super().__init__(
            f"replay diverged at event {seq}: the journal has {expected}, the guest did {actual}"
        )
        self.seq = seq
        self.expected = expected
        self.actual = actual
        self.backtrace = backtrace


class OutputLost(EngineError):
    """An output could not be delivered to its target."""
