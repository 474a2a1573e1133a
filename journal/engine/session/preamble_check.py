"""Validation of the events on which a resume relies before the guest runs.

A journal may come from anybody: its hashes are right, and its events may still make no sense. Each
value is checked here before it is used: the preamble, and the events of the standard streams. A
wrong value raises ``NotResumable`` with one short line. ``MalformedEvent`` is for payloads that do
not fit their layout, and ``EngineMismatch`` for a value that another version may understand.
"""

import os
from typing import NoReturn

from journal._arguments import quote
from journal.engine.program.module import MODULE_SIZE_MAX
from journal.engine.wasi.descriptors import DESCRIPTORS_MAX
from journal.engine.wasi.filesystem.mounts import FIRST_DESCRIPTOR, MOUNTS_MAX, explain_wrong_name
from journal.engine.wasi.network.addresses import format_address
from journal.engine.wasi.network.listeners import LISTENERS_COUNT_MAX
from journal.engine.wasi.stdio.outbox import STDERR, STDIN, STDOUT
from journal.errors import NotResumable
from journal.events.paths import FilePlaced
from journal.events.process import HOST_MOUNTS, Listener, Mount, ProcessStart
from journal.events.processes import ChildStart, StartKind
from journal.events.streams import StreamOpened
from journal.snapshots.resume_flags import find_secrets_hash
from journal.vfs.memory_backend import ENTRY_SIZE
from journal.vfs.path_resolution import PATH_SIZE_MAX, split_path

LABEL_SIZE_MAX = 100
"""Largest size of the names of an engine, a version or a platform, in characters."""

COPIES_FACTOR_MAX = 2
"""Bound of the copied files, as a multiple of what fits into all memory mounts: a later copy may
replace an earlier one."""

PIDS_MAX = 1 << 22
"""Largest number of a process."""

OFFSET_MAX = 1 << 62
"""Largest offset in a stream or a file. A sum of two offsets still fits the operating system."""

_INPUTS = frozenset((STDIN,))
_OUTPUTS = frozenset((STDOUT, STDERR))


def check_start(start: ProcessStart) -> None:
    """Raise ``NotResumable`` for an invalid identity, apart from its configuration."""
    for name in ("engine", "engine_version", "journal_version", "platform"):
        label = getattr(start, name)
        if len(label) > LABEL_SIZE_MAX or not label.isprintable():
            _refuse(f"its {name}", f"at most {LABEL_SIZE_MAX} printable characters", label)
    _check_host_path("the path of its module", start.module_path, is_optional=True)
    if start.module_size > MODULE_SIZE_MAX:
        _refuse("the size of its module", f"at most {MODULE_SIZE_MAX} bytes", start.module_size)
    for argument in start.arguments:
        if b"\0" in argument:
            _refuse("each argument", "without NUL", argument)
    has_secrets = bool(find_secrets_hash(start))
    for variable in start.environment:
        is_secret = has_secrets and variable and b"=" not in variable
        if b"\0" in variable or not (is_secret or variable.find(b"=") >= 1):
            _refuse("each variable of the environment", "NAME=value without NUL", variable)


def check_child(child: ChildStart) -> None:
    """Raise ``NotResumable`` for a start by another process that no recorder writes."""
    if not child.pid or child.pid > PIDS_MAX or child.parent > PIDS_MAX:
        _refuse("the number of a process", f"from 1 to {PIDS_MAX}", child.pid)
    fds = [each.fd for each in child.descriptors] + [each.fd for each in child.files]
    if len(set(fds)) != len(fds) or max(fds, default=0) >= DESCRIPTORS_MAX:
        _refuse("the descriptors of a process", f"different ones below {DESCRIPTORS_MAX}", fds)
    for each in child.descriptors:
        if each.origin is StartKind.DUPLICATE and each.source not in fds:
            _refuse("the source of a duplicate", "a descriptor of the process", each.source)
    for file in child.files:
        if file.position > OFFSET_MAX or len(file.path) > PATH_SIZE_MAX or "\0" in file.path:
            _refuse("a file of a process", "a path without NUL and a position", file.path)


def check_first(child: ChildStart | None) -> None:
    """Raise ``NotResumable`` if a process is not the first one of its run."""
    if child is not None:
        raise NotResumable(
            f"the journal is that of process {child.pid} of a run: resume the journal of the first "
            "process, which resumes the others"
        )


class FilesCheck:
    """Check of the mounts of a guest and of the files that are copied into them.

    The copied files are bounded together, because all of them are in memory at once.
    """

    def __init__(self, files_size_max: int) -> None:
        self._files_size_max = files_size_max
        self._names: set[tuple[str, ...]] = set()
        self._memory_count = 0
        self._copied_size = 0

    def add_mount(self, mount: Mount) -> None:
        """Raise ``NotResumable`` for a mount that no recorder writes here."""
        number = len(self._names)
        if number >= MOUNTS_MAX:
            raise NotResumable(f"the journal has more than {MOUNTS_MAX} mounts")
        if mount.fd != FIRST_DESCRIPTOR + number:
            raise NotResumable(
                f"mount {number} has descriptor {mount.fd}: it must be {FIRST_DESCRIPTOR + number}"
            )
        fault = explain_wrong_name(mount.guest, self._names)
        if fault:
            raise NotResumable(f"mount {number}: {fault}")
        self._names.add(tuple(split_path(mount.guest)))
        name = f"the host path of mount {number}"
        if mount.kind not in HOST_MOUNTS:
            self._memory_count += 1
            if mount.host:
                _refuse(name, "empty for files in memory", mount.host)
            return
        _check_host_path(name, mount.host)
        if os.path.normpath(mount.host) != mount.host:
            _refuse(name, "without '.', '..' and empty names", mount.host)

    def add_copy(self, file: FilePlaced) -> None:
        """Raise ``NotResumable`` if a copied file is invalid, or if all of them are too large."""
        if file.offset > OFFSET_MAX or (file.offset and not file.data):
            raise NotResumable(f"a copied file has a part at {file.offset} that cannot be there")
        if len(file.path) > PATH_SIZE_MAX or "\0" in file.path:
            _refuse("the path of a copied file", f"below {PATH_SIZE_MAX} bytes, no NUL", file.path)
        size_max = COPIES_FACTOR_MAX * self._memory_count * self._files_size_max
        self._copied_size += len(file.data) + (0 if file.offset else ENTRY_SIZE)
        if self._copied_size > size_max:
            raise NotResumable(
                f"the copied files have more than {size_max} bytes: they do not fit the guest"
            )


def check_listener(event: Listener, mounts: int, number: int) -> None:
    """Raise ``NotResumable`` for a listener that no recorder writes here.

    ``mounts`` and ``number`` are the counts of mounts and listeners before it.
    """
    if number >= LISTENERS_COUNT_MAX:
        raise NotResumable(f"the journal has more than {LISTENERS_COUNT_MAX} listeners")
    fd = FIRST_DESCRIPTOR + mounts + number
    if event.fd != fd:
        raise NotResumable(f"listener {number} has descriptor {event.fd}: it must be {fd}")
    address = event.addr
    if not address.port or address.flow or address.scope:
        _refuse(f"the address of listener {number}", "with a port only", format_address(address))


def check_stream(stream: int, *, is_input_allowed: bool = False) -> None:
    """Raise ``NotResumable`` unless ``stream`` is the number of a standard stream."""
    allowed = _OUTPUTS | _INPUTS if is_input_allowed else _OUTPUTS
    if stream not in allowed:
        raise NotResumable(
            f"the journal has an event of stream {stream}: it must be one of {sorted(allowed)}"
        )


def check_opened(event: StreamOpened) -> None:
    """Raise ``NotResumable`` for an impossible target of a standard stream."""
    check_stream(event.stream, is_input_allowed=True)
    check_offset(event.stream, event.position)


def check_offset(stream: int, offset: int) -> None:
    """Raise ``NotResumable`` for an impossible offset in a standard stream."""
    if offset > OFFSET_MAX:
        raise NotResumable(f"stream {stream} has offset {offset}: at most {OFFSET_MAX} is possible")


def _check_host_path(name: str, path: str, *, is_optional: bool = False) -> None:
    if is_optional and not path:
        return
    if not path.startswith("/") or "\0" in path or len(path) > PATH_SIZE_MAX:
        _refuse(name, f"absolute, without NUL, of at most {PATH_SIZE_MAX} characters", path)


def _refuse(name: str, allowed: str, value: object) -> NoReturn:
    raise NotResumable(f"{name} must be {allowed}, the journal has {quote(value)}")
