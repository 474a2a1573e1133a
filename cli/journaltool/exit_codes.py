"""Table of the exit codes: their meanings, their errors, and the commands that use them.

The help of the commands, the man pages and the command reference are written from this table.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the tool, as opposed to the exit codes of a guest.

    run and resume exit with REFUSED for every error, because a guest may exit with the other codes.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """Return a member with its meaning for the command reference."""
        member = int.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member

    FINE = 0, "success; a torn tail after a crash is success, too"
    ERROR = 1, "the journal cannot be read, is no journal, or the task cannot be done"
    USAGE = 2, "wrong usage"
    DAMAGED = (
        3,
        "blocks or events are wrong; `verify`: any damage; `recover`, `concat --salvage`: done, "
        "and events are lost; `replay`, `check-resume`: something differs from the recording",
    )
    TORN = 4, "whole, except for a torn tail"
    GAP = 5, "blocks are missing"
    LOST = 6, "events are lost that had been durable"
    LOCKED = 7, "another process writes the journal"
    STORAGE = 8, "the operating system refused a write or a sync"
    UNFINISHED = (
        9,
        "`verify`: nothing wrong so far, and `--max-seconds` is over; `snapshot`: no snapshot "
        "before `--timeout`",
    )
    TIMEOUT = 124, "`--timeout` stopped the guest or the replay"
    REFUSED = 125, "an error of the tool"
    HANGUP = 129, "SIGHUP stopped the guest"
    INTERRUPTED = 130, "Ctrl-C"
    TRAPPED = 134, "the guest trapped"
    BROKEN_PIPE = 141, "the reader of the guest's output closed it; a resume delivers the rest"
    TERMINATED = 143, "SIGTERM"


CODE_OF_ERROR = {
    "LostAcknowledged": ExitCode.LOST,
    "MissingEvents": ExitCode.GAP,
    "CorruptBlock": ExitCode.DAMAGED,
    "MalformedEvent": ExitCode.DAMAGED,
    "TornBlock": ExitCode.TORN,
    "JournalLocked": ExitCode.LOCKED,
    "StorageError": ExitCode.STORAGE,
}
"""Exit codes by class name, without an import of ``journal.errors``; other errors are ERROR."""

_LOSSES = (ExitCode.LOST, ExitCode.GAP, ExitCode.DAMAGED)
_GRAVEST_FIRST = (
    *_LOSSES,
    ExitCode.STORAGE,
    ExitCode.ERROR,
    ExitCode.TIMEOUT,
    ExitCode.LOCKED,
    ExitCode.UNFINISHED,
    ExitCode.TORN,
)

GUEST_CODES = "0-255"
"""Exit codes of a guest."""

Codes = Mapping[ExitCode | str, str]
"""Exit codes of a command, each with its meaning there."""

_USAGE: Codes = {ExitCode.USAGE: "The usage is wrong."}
_NO_JOURNAL: Codes = {ExitCode.ERROR: "The journal cannot be read or is not a journal.", **_USAGE}


def _copied(source: str, target: str) -> Codes:
    """Return the errors of a command that reads a journal and writes a file."""
    cannot = (
        f"{source} cannot be read or is not a journal, or {target} exists or cannot be written."
    )
    return {ExitCode.ERROR: cannot, **_USAGE}


def _damage(subject: str, also: str = "") -> Codes:
    """Return the damage to a journal that a command reads from start to end."""
    return {
        ExitCode.DAMAGED: f"A block of {subject} is damaged{also}.",
        ExitCode.GAP: f"Blocks of {subject} are missing.",
        ExitCode.LOST: f"Events of {subject} that had been durable are lost.",
    }


def _part_damage(then: str) -> Codes:
    """Return the damage that a command reports after its output."""
    return {
        ExitCode.DAMAGED: f"Blocks or events are damaged.{then}",
        ExitCode.GAP: f"Blocks are missing.{then}",
        ExitCode.LOST: f"Events that had been durable are lost.{then}",
    }


def _unwritten(target: str) -> Codes:
    return {ExitCode.STORAGE: f"{target} could not be written completely."}


CODES_OF_COMMANDS: Mapping[str, Codes] = {
    "run": {
        GUEST_CODES: "The exit code of the program. Also 0 if --stop-after-snapshot stopped it.",
        **_USAGE,
        ExitCode.TIMEOUT: "--timeout stopped the program.",
        ExitCode.REFUSED: "journaltool itself failed.",
        ExitCode.HANGUP: "SIGHUP stopped the program.",
        ExitCode.INTERRUPTED: "Ctrl-C stopped the program.",
        ExitCode.TRAPPED: "The program trapped.",
        ExitCode.BROKEN_PIPE: "The reader of the output closed it. A resume delivers the rest.",
        ExitCode.TERMINATED: "SIGTERM stopped the program.",
    },
    "prepare": {
        ExitCode.FINE: "Each program is in the cache.",
        ExitCode.ERROR: "A program cannot run, or the cache cannot be written.",
        **_USAGE,
    },
    "check-resume": {
        ExitCode.FINE: "No difference was found, or the program has ended.",
        ExitCode.ERROR: "The journal cannot be read, is not a journal, or cannot be resumed here.",
        **_USAGE,
        ExitCode.DAMAGED: "The host differs from the recording.",
        ExitCode.LOCKED: "A process writes the journal, so a resume is refused until it ends.",
    },
    "trust": {
        ExitCode.FINE: "The request was approved or printed, the approvals listed or removed.",
        ExitCode.ERROR: "The journal cannot be read or is not a journal, or the approval cannot be "
        "stored.",
        **_USAGE,
    },
    "snapshot": {
        ExitCode.FINE: "The snapshot was taken.",
        ExitCode.ERROR: "No process writes the journal, or the process cannot take a snapshot or "
        "ended first.",
        **_USAGE,
        ExitCode.UNFINISHED: "The snapshot was requested, but not taken before --timeout. It may "
        "be taken later.",
    },
    "snapshots": {
        ExitCode.FINE: "The snapshots were listed. There may be none.",
        **_NO_JOURNAL,
        **_part_damage(" Snapshots before the damage were listed."),
    },
    "replay": {
        ExitCode.FINE: "The replay matched the journal, however the program ended.",
        ExitCode.ERROR: "The journal cannot be read, is not a journal, or cannot be executed here.",
        **_USAGE,
        ExitCode.DAMAGED: "The replay diverged from the journal.",
        ExitCode.TIMEOUT: "--timeout ended the replay.",
    },
    "inspect": {
        ExitCode.FINE: "All events were printed. A tail that a crash cut short is reported on "
        "stderr.",
        **_NO_JOURNAL,
        ExitCode.ERROR: "The journal cannot be read or is not a journal. With --follow: it was "
        "replaced, cut,\nremoved or renamed.",
        **_part_damage(" Readable events were printed."),
        ExitCode.INTERRUPTED: "With --follow: Ctrl-C ended the command.",
    },
    "tail": {
        ExitCode.FINE: "The events were printed, or the reader of the output closed it.",
        **_NO_JOURNAL,
        ExitCode.ERROR: "The journal cannot be read or is not a journal. With --follow: it was "
        "replaced, cut,\nremoved or renamed.",
        ExitCode.DAMAGED: "Some of these events are damaged. Readable events were printed.",
        ExitCode.GAP: "Some of these blocks are missing. Readable events were printed.",
        ExitCode.LOST: "Some of these events had been durable and are lost. Readable events were "
        "printed.",
        ExitCode.INTERRUPTED: "Ctrl-C ended the command.",
    },
    "info": {ExitCode.FINE: "The summary was printed.", **_NO_JOURNAL},
    "stats": {
        ExitCode.FINE: "The statistics were printed.",
        **_NO_JOURNAL,
        ExitCode.DAMAGED: "Part of the journal is damaged. The statistics count the readable part.",
    },
    "index": {
        ExitCode.FINE: "The index was shown, rebuilt or removed. With --check: it is correct, or "
        "there is none.",
        ExitCode.ERROR: "The journal cannot be read or is not a journal, or the index cannot be "
        "written.",
        **_USAGE,
        **_damage("the journal"),
        ExitCode.DAMAGED: "The journal is damaged. With --check: the index is wrong or does not "
        "match the journal.",
    },
    "verify": {
        ExitCode.FINE: "The journal is whole.",
        **_NO_JOURNAL,
        ExitCode.DAMAGED: "The journal is damaged: events are lost or wrong. With --signed-by: or "
        "not all are signed.",
        ExitCode.TORN: "The journal is whole, except for a tail that a crash cut short.",
        ExitCode.UNFINISHED: "--max-seconds stopped the check, and no damage was found so far.",
    },
    "recover": {
        ExitCode.FINE: "No event is lost. A tail that a crash cut short is not a loss.",
        **_copied("SOURCE", "TARGET"),
        ExitCode.DAMAGED: "TARGET was written with all readable events, and events are lost.",
    },
    "concat": {
        ExitCode.FINE: "The journals were joined.",
        **_copied("A source", "TARGET"),
        **_damage("a source", ". With --salvage: TARGET was written, and events are lost"),
        **_unwritten("TARGET"),
    },
    "split": {
        ExitCode.FINE: "The journal was split.",
        ExitCode.ERROR: "JOURNAL cannot be read or is not a journal, or there is nothing to split, "
        "or DIRECTORY exists\nor cannot be written.",
        **_USAGE,
        **_damage("JOURNAL"),
        **_unwritten("A part"),
    },
    "cut": {
        ExitCode.FINE: "The journal was cut.",
        ExitCode.ERROR: "JOURNAL cannot be read or is not a journal, or has no such event or no "
        "resumable snapshot,\nor TARGET exists or cannot be written.",
        **_USAGE,
        **_damage("JOURNAL"),
        **_unwritten("TARGET"),
    },
    "fork": {
        ExitCode.FINE: "The journal was forked.",
        ExitCode.ERROR: "JOURNAL cannot be read or is not a journal, or has no such event or no "
        "resumable snapshot,\nor NEW exists or cannot be written.",
        **_USAGE,
        **_damage("JOURNAL"),
        **_unwritten("NEW"),
    },
    "filter": {
        ExitCode.FINE: "The journal was filtered.",
        **_copied("SOURCE", "TARGET"),
        **_damage("SOURCE", ", or an event that has to be decoded is malformed"),
        ExitCode.LOCKED: "Another process writes SOURCE (with --in-place) or TARGET (with "
        "--force).",
        **_unwritten("TARGET"),
    },
    "compact": {
        ExitCode.FINE: "The journal was compacted.",
        **_copied("SOURCE", "TARGET"),
        **_damage("SOURCE"),
        ExitCode.LOCKED: "Another process writes SOURCE (with --in-place) or TARGET (with "
        "--force).",
        **_unwritten("TARGET"),
    },
    "export": {
        ExitCode.FINE: "The journal was exported.",
        **_copied("JOURNAL", "FILE"),
        **_damage("JOURNAL"),
        ExitCode.LOCKED: "With --force: another process writes FILE.",
    },
    "import": {
        ExitCode.FINE: "The journal was imported.",
        ExitCode.ERROR: "FILE cannot be read, or JOURNAL exists or cannot be written.",
        **_USAGE,
        ExitCode.DAMAGED: "FILE is not an export, or is incomplete.",
        ExitCode.LOCKED: "",
        **_unwritten("JOURNAL"),
    },
    "extract": {
        ExitCode.FINE: "The state was extracted.",
        ExitCode.ERROR: "JOURNAL cannot be read or replayed, is not a journal, or has no such "
        "event or snapshot,\nor the target exists or cannot be written.",
        **_USAGE,
        **_part_damage(""),
    },
    "head": {
        ExitCode.FINE: "The head was printed.",
        **_NO_JOURNAL,
        **_damage("the journal"),
    },
    "sign": {
        ExitCode.FINE: "The journal is signed.",
        **_NO_JOURNAL,
        ExitCode.ERROR: "The journal cannot be read or is not a journal, or an earlier signature "
        "is not genuine.",
        **_damage("the journal"),
        ExitCode.LOCKED: "Another process writes the journal.",
        **_unwritten("The signature"),
    },
    "keygen": {
        ExitCode.FINE: "The key was written.",
        ExitCode.ERROR: "FILE exists or cannot be written.",
        **_USAGE,
    },
    "completion": {ExitCode.FINE: "The script was printed.", **_USAGE},
}
"""Exit codes of each command, as its help lists them; an empty text is not listed.

resume has the codes of run. Ctrl-C ends every command with INTERRUPTED, SIGTERM with TERMINATED.
"""


def list_codes(command: str) -> str:
    """Return the lines of the exit codes in the help of a command."""
    rows = [
        (code if isinstance(code, str) else str(code.value), text)
        for code, text in CODES_OF_COMMANDS[command].items()
        if text
    ]
    width = max(len(code) for code, _ in rows)
    break_ = "\n" + " " * (width + 4)
    return "\n".join(f"  {code:<{width}}  {text.replace(chr(10), break_)}" for code, text in rows)


def code_for_signal(number: int) -> int:
    """Return the exit code of a process that a signal stopped."""
    return 128 + number


def code_for_error(error: Exception) -> ExitCode:
    """Return the exit code of the class of an error."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next((CODE_OF_ERROR[kind] for kind in kinds if kind in CODE_OF_ERROR), ExitCode.ERROR)


def code_for_errors(errors: Iterable[Exception]) -> ExitCode:
    """Return the exit code of the gravest error, or FINE without errors."""
    codes = {code_for_error(error) for error in errors}
    if not codes:
        return ExitCode.FINE
    return next((code for code in _LOSSES if code in codes), ExitCode.ERROR)


def find_gravest(codes: Collection[ExitCode]) -> ExitCode:
    """Return the gravest of the exit codes of several journals, or FINE without codes."""
    return next((code for code in _GRAVEST_FIRST if code in codes), ExitCode.FINE)
