"""Exception tree of the package.

* JournalError
  + FormatError            the bytes at an offset violate the format
    - NotAJournal          the file does not begin with a segment header
    - UnsupportedVersion   a version or feature that this reader does not support
    - TornBlock            the file ends inside a block; normal after a crash
    - DamagedJournal       bytes before complete blocks were lost
      . CorruptBlock       a block is complete, but its bytes are wrong
      . MissingEvents      blocks that must have existed are missing
      . LostAcknowledged   either of these, and a sync had reported success
    - MalformedEvent       the hashes are correct, but the payload does not fit its layout
    - UnknownEvent         a tag that this version does not define
    - LimitExceeded        a size, a count or a length exceeds a named limit
  + JournalLocked          another process is writing this journal
  + JournalChanged         a followed journal was replaced, cut or removed
  + WrongKey               a sealed journal is read without its key, or with another one
  + UnexpectedHead         a journal was cut, set back or replaced since its head was kept
  + NotSigned              a key has not signed all of a journal, or the signature is false
  + StorageError           the operating system refused a write or a sync
  + JobFailed              a worker process returned no result for a journal
  + OptionError            the caller passed an invalid option
    - JournalExists        the path of a new journal is taken
    - ExpressionError      a query is invalid, with the position of the error
    - WrongProcess         the object belongs to the process that this one was forked from
  + EngineError            a guest could not be run
    - ModuleRefused        the module is invalid, or needs an unavailable feature
    - ModuleMismatch       the journal belongs to another module
    - EngineMismatch       this engine cannot reproduce the recorded run
    - NotResumable         the journal does not contain the data that a resume needs
    - GrantsMissing        the journal asks for access to the host that nobody granted
    - ResourceRefused      the journal may need more of a resource than its user allows
    - InstanceTrapped      a call of an instance ended with a trap
    - PoolFull             a pool has no free slot
    - HostMismatch         the host differs from the recording, or refuses to reopen a file
    - Divergence           a replay differs from the journal
    - OutputLost           an output could not be delivered to its target
    - WorkerDied           a worker of a pool has died, and with it the sessions that it served
"""

from typing import Any


class JournalError(Exception):
    """Base class of all deliberate errors of this package. The message is one sentence.

    ``path`` is the path of the file or journal that the error concerns, and empty if there is none
    or if it is unknown. Errors can be copied and pickled with all their data.
    """

    path: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors of some classes do not take ``args``, so a copy does not call them.
        return _restore_error, (type(self), self.args, self.__dict__)


def _restore_error(
    cls: type[JournalError], args: tuple[Any, ...], values: dict[str, Any]
) -> JournalError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(values)
    return error


class FormatError(JournalError):
    """The bytes at ``offset`` violate the format.

    ``file`` names the segment file if the journal is a directory, and is empty otherwise. ``path``
    is the path of the journal, and the text begins with it.
    """

    def __init__(self, reason: str, offset: int = 0, file: str = "") -> None:
        super().__init__(reason, offset, file)
        self.reason = reason
        self.offset = offset
        self.file = file

    def __str__(self) -> str:
        location = f" of {self.file}" if self.file else ""
        is_named = not self.path or self.reason.startswith(f"{self.path} ")
        journal = "" if is_named else f"{self.path}: "
        return f"{journal}{self.reason} at offset {self.offset}{location}"


class NotAJournal(FormatError):
    """The file does not begin with a segment header."""


class UnsupportedVersion(FormatError):
    """This reader does not support the format version, or a feature that the journal uses."""


class TornBlock(FormatError):
    """The file ends inside a block, as it does after a crash."""


class DamagedJournal(FormatError):
    """Bytes before complete blocks were lost.

    ``size`` bytes at ``offset`` are lost, and with them the events ``first_seq`` to ``last_seq``
    (none if ``last_seq < first_seq``). Reading can resume at ``last_seq + 1``.
    """

    acknowledged = False
    """Whether a sync had reported the lost bytes as durable."""

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
    """A block is complete, but its bytes are wrong."""


class MissingEvents(DamagedJournal):
    """Blocks that must have existed are missing."""


class LostAcknowledged(DamagedJournal):
    """Bytes that a sync had reported as durable are lost."""

    acknowledged = True


class MalformedEvent(FormatError):
    """The hashes are correct, but the payload does not fit the layout of its event."""


class UnknownEvent(FormatError):
    """This version of the format does not define the tag."""


class LimitExceeded(FormatError):
    """A size, a count or a length exceeds a named limit."""


class JournalLocked(JournalError):
    """Another process, or another writer of this process, is writing the journal at ``path``."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.path = path


class JournalChanged(JournalError):
    """A followed journal was replaced by another one, cut, removed or renamed.

    Its events below ``next_seq`` had been read. What is at its path now is another history.
    """

    def __init__(self, reason: str, next_seq: int) -> None:
        super().__init__(reason, next_seq)
        self.reason = reason
        self.next_seq = next_seq

    def __str__(self) -> str:
        return f"{self.reason}, after its events below sequence number {self.next_seq} were read"


class WrongKey(JournalError):
    """A sealed journal is read without its key or with another one, or is not sealed at all.

    This is never damage: with the right key, the same bytes are valid.
    """


class NotSigned(JournalError):
    """A journal is not signed by a key, only up to an event, or with a false signature."""


class UnexpectedHead(JournalError):
    """A journal is no continuation of the state whose head was kept: it was cut or set back."""


class StorageError(JournalError):
    """The operating system refused a write or a sync.

    ``first_seq_lost`` is the sequence number of the first event that may not be durable, ``path``
    the file or journal.
    """

    is_disk_full = False
    """Whether the disk or a quota is full. With room again, the journal can be continued."""

    def __init__(self, reason: str, first_seq_lost: int, path: str = "") -> None:
        super().__init__(
            f"{reason}; events from sequence number {first_seq_lost} on are not durable"
        )
        self.reason = reason
        self.first_seq_lost = first_seq_lost
        self.path = path


class JobFailed(JournalError):
    """A worker process of ``map`` returned no result for a journal."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        """Whether the process was ended because it took too long."""


class OptionError(JournalError):
    """The caller passed an invalid option."""


class JournalExists(OptionError):
    """A journal was to be created at ``path``, which exists."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.path = path


class ExpressionError(OptionError):
    """A query is invalid: ``reason`` says why, ``position`` is the index in ``text``."""

    def __init__(self, reason: str, text: str, position: int) -> None:
        super().__init__(f"{reason}, at column {position + 1}")
        self.reason = reason
        self.text = text
        self.position = position


class WrongProcess(OptionError):
    """A forked process used an object that belongs to the process it was forked from.

    ``path`` is the path of the journal, ``owner`` and ``process`` are the numbers of the two
    processes. The child may close the object, which changes nothing, and open another one.
    """

    def __init__(self, path: str, owner: int, process: int) -> None:
        super().__init__(path, owner, process)
        self.path = path
        self.owner = owner
        self.process = process

    def __str__(self) -> str:
        return (
            f"{self.path} was opened by process {self.owner} and cannot be used "
            f"in process {self.process}, which was forked from it: open it again here"
        )


class EngineError(JournalError):
    """A guest could not be run."""


class ModuleRefused(EngineError):
    """The module is invalid, or needs a feature that is not available."""


class ModuleMismatch(EngineError):
    """The journal belongs to another module."""


class EngineMismatch(EngineError):
    """This engine cannot reproduce the recorded run."""


class NotResumable(EngineError):
    """The journal does not contain the data that a resume needs."""


class GrantsMissing(EngineError):
    """The journal asks for access to the host that its user has not granted.

    ``requests`` has one phrase for each directory and for the module file, ``options`` the options
    of journaltool that grant them, quoted for a shell.
    """

    def __init__(
        self, reason: str, requests: tuple[str, ...] = (), options: tuple[str, ...] = ()
    ) -> None:
        super().__init__(reason, requests, options)
        self.reason = reason
        self.requests = requests
        self.options = options

    def __str__(self) -> str:
        return self.reason


class ResourceRefused(EngineError):
    """The journal may need more of a resource than its user allows."""


class InstanceTrapped(EngineError):
    """A call of an instance ended with a trap.

    ``kind`` is its short name, such as ``integer division by zero``, and ``backtrace`` the call
    stack of the guest, innermost function first.
    """

    def __init__(self, kind: str, backtrace: str = "") -> None:
        super().__init__(f"the guest trapped: {kind}")
        self.kind = kind
        self.backtrace = backtrace


class PoolFull(EngineError):
    """A pool has no free slot, and none became free within the time of the wait."""


class HostMismatch(EngineError):
    """The host differs from the recording, or refuses to reopen a file that the guest had open.

    ``differences`` has one sentence for each difference; it is empty if the host refuses.
    """

    def __init__(self, reason: str, differences: tuple[str, ...] = ()) -> None:
        super().__init__(reason, differences)
        self.reason = reason
        self.differences = differences

    def __str__(self) -> str:
        return self.reason


class Divergence(EngineError):
    """A replay differs from the journal.

    ``seq`` is the sequence number of the event, ``expected`` the recorded event, ``actual`` the
    guest's action, ``backtrace`` the guest's call stack, innermost function first.
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
    """An output could not be delivered to its target.

    ``errno`` is the error number of the operating system, such as ``EPIPE`` if the reader has left.
    """

    def __init__(self, reason: str, errno: int = 0) -> None:
        super().__init__(reason)
        self.errno = errno


class WorkerDied(EngineError):
    """A worker of a pool has died, and with it the sessions that it served.

    The pool replaces the worker. Nothing of the session is left, except its journal in a file.
    """
