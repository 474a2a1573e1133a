"""Functions of WASIX that start, replace and join processes."""

import struct
from dataclasses import replace
from typing import NoReturn

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import PATH_SIZE_MAX, CallContext, is_utf8
from journal.engine.wasi.functions.channels import create_pipe
from journal.engine.wasi.functions.descriptors import fd_close
from journal.engine.wasi.processes import ChildEnd, StartRequest
from journal.engine.wasi.start_table import StartTable
from journal.events.processes import EndKind, StartFile
from journal.events.wire_types import decode_path
from journal.vfs.path_resolution import PATH_SIZE_MAX as GUEST_PATH_SIZE_MAX
from journal.vfs.path_resolution import split_path
from journal.wasi_abi import Errno, ProcExit, Signal, WasiError

#: Largest size of the arguments of a program, and of its environment, in bytes.
ARGUMENTS_SIZE_MAX = 1 << 20

#: Largest count of file actions of a spawn, and of signal dispositions.
ACTIONS_MAX = 1024

_NONBLOCKING = 1  # Flag of proc_join.
_IGNORE = 1  # Disposition of a signal.
_COMMAND_DIRECTORIES = ("", "/bin", "/usr/bin")

_CLOSE, _DUP2, _OPEN, _CHDIR, _FCHDIR = range(5)
_ACTION = struct.Struct("<B3x5IH6xQQHH4x")
assert _ACTION.size == 56

_OPTION_PID = struct.Struct("<B3xI")
_STATUS = struct.Struct("<BxHBx")
_HANDLES = struct.Struct("<I" + "B3xI" * 3)
assert (_OPTION_PID.size, _STATUS.size, _HANDLES.size) == (8, 6, 28)

_PIPED, _INHERIT, _NULL, _LOG = 1, 2, 3, 4  # Modes of the standard streams of proc_spawn.


def proc_id(context: CallContext, result: int) -> None:
    """Write the number of the process."""
    context.memory.write_u32(result, context.processes.pid)


def proc_parent(context: CallContext, pid: int, result: int) -> None:
    """Write the number of the parent of this process, 0 for the first process."""
    context.memory.check(result, 4)
    if pid != context.processes.pid:
        raise WasiError(Errno.SRCH)
    context.memory.write_u32(result, context.processes.parent)


def proc_exit2(context: CallContext, code: int) -> None:
    """End the process with an exit code."""
    raise ProcExit(code)


def proc_join(context: CallContext, option_pid: int, flags: int, status: int) -> None:
    """Wait for the end of a child, and write its number and its status."""
    memory = context.memory
    memory.check(status, _STATUS.size)
    has_pid, wanted = memory.unpack(_OPTION_PID, option_pid)
    if has_pid and not wanted:
        raise WasiError(Errno.CHILD)
    end = context.processes.join(context, wanted if has_pid else 0, waits=not flags & _NONBLOCKING)
    memory.write(option_pid, _OPTION_PID.pack(int(end.kind is not EndKind.NONE), end.pid))
    memory.write(status, _pack_status(end))


def _pack_status(end: ChildEnd) -> bytes:
    if end.kind is EndKind.KILLED:
        return _STATUS.pack(end.kind, 0, end.code & 0xFF)
    return _STATUS.pack(end.kind, end.code & 0xFFFF, 0)


def proc_spawn2(  # long: the type of WASIX
    context: CallContext,
    name: int,
    name_size: int,
    arguments: int,
    arguments_size: int,
    environment: int,
    environment_size: int,
    actions: int,
    action_count: int,
    dispositions: int,
    disposition_count: int,
    search_path: int,
    path: int,
    path_size: int,
    result: int,
) -> None:
    """Start a program in a child, after file actions in the child; write its number."""
    context.memory.check(result, 4)
    if disposition_count > ACTIONS_MAX:
        raise WasiError(Errno.TOO_BIG)
    ignored = _read_ignored(context, dispositions, disposition_count)
    context.memory.check(path, path_size)
    table = StartTable(context.descriptors, context.working_directory)
    _apply_actions(context, table, actions, action_count)
    request = _make_request(
        context,
        (name, name_size),
        (arguments, arguments_size),
        (environment, environment_size),
        table,
    )
    pid = context.processes.spawn(replace(request, ignored=ignored))
    context.memory.write_u32(result, pid)


def _read_ignored(context: CallContext, pointer: int, count: int) -> bytes:
    """Return the signals that a child ignores from its start."""
    pairs = context.memory.read(pointer, 2 * count)
    known = frozenset(Signal)
    return bytes(
        signal
        for signal, disposition in zip(pairs[::2], pairs[1::2], strict=True)
        if disposition == _IGNORE and signal in known
    )


def proc_spawn(  # long: the type of WASIX
    context: CallContext,
    name: int,
    name_size: int,
    chroot: int,
    arguments: int,
    arguments_size: int,
    preopens: int,
    preopens_size: int,
    stdin: int,
    stdout: int,
    stderr: int,
    directory: int,
    directory_size: int,
    result: int,
) -> None:
    """Start a program in a child whose standard streams are pipes, inherited or null."""
    memory = context.memory
    memory.check(result, _HANDLES.size)
    memory.check(preopens, preopens_size)
    if chroot or preopens_size:
        raise WasiError(Errno.NOTSUP)
    modes = stdin, stdout, stderr
    if any(mode > _LOG for mode in modes):
        raise WasiError(Errno.INVAL)
    table = StartTable(context.descriptors, context.working_directory)
    if directory_size:
        table.directory = _join_path(table.directory, context.read_path(directory, directory_size))
    request = _make_request(context, (name, name_size), (arguments, arguments_size), (0, 0), table)
    own_ends = _connect_streams(context, table, modes)
    descriptors, files = table.finish()
    try:
        pid = context.processes.spawn(
            replace(request, descriptors=descriptors, files=files, directory=table.directory)
        )
    except WasiError:
        for fd in own_ends:
            if fd is not None:
                fd_close(context, fd)
        raise
    options = [(int(fd is not None), fd or 0) for fd in own_ends]
    memory.write(result, _HANDLES.pack(pid, *(each for option in options for each in option)))


def _connect_streams(
    context: CallContext, table: StartTable, modes: tuple[int, ...]
) -> list[int | None]:
    """Make the pipes of a child's streams; return the descriptors of the parent's ends."""
    own_ends: list[int | None] = []
    for stream, mode in enumerate(modes):
        own_ends.append(None)
        if mode in (_NULL, _LOG):
            table.close(stream)
        elif mode == _PIPED:
            read_fd, write_fd = context.descriptors.next_pair()
            create_pipe(context, read_fd, write_fd)
            child_fd, own_fd = (read_fd, write_fd) if stream == 0 else (write_fd, read_fd)
            table.put(stream, context.descriptors.get(child_fd))
            fd_close(context, child_fd)
            own_ends[-1] = own_fd
    return own_ends


def _apply_actions(context: CallContext, table: StartTable, pointer: int, count: int) -> None:
    """Change the descriptors of a child by the file actions of its parent."""
    if count > ACTIONS_MAX:
        raise WasiError(Errno.TOO_BIG)
    for action in context.memory.unpack_many(_ACTION, pointer, count):
        kind, fd, source, path, path_size, lookup, o_flags, rights, _, flags, _ = action
        if kind == _CLOSE:
            table.close(fd)
        elif kind == _DUP2:
            table.duplicate(source, fd)
        elif kind == _OPEN:
            full_path = _join_path(table.directory, context.read_path(path, path_size))
            table.open(StartFile(fd, lookup, o_flags, flags, rights, 0, full_path))
        elif kind == _CHDIR:
            table.directory = _join_path(table.directory, context.read_path(path, path_size))
        elif kind == _FCHDIR:
            raise WasiError(Errno.NOTSUP)
        else:
            raise WasiError(Errno.INVAL)


def proc_exec3(  # long: the type of WASIX
    context: CallContext,
    name: int,
    name_size: int,
    arguments: int,
    arguments_size: int,
    environment: int,
    environment_size: int,
    search_path: int,
    path: int,
    path_size: int,
) -> NoReturn:
    """Replace the program of the process. Returns only an error."""
    context.memory.check(path, path_size)
    request = _make_request(
        context,
        (name, name_size),
        (arguments, arguments_size),
        (environment, environment_size),
        StartTable(context.descriptors, context.working_directory),
    )
    ignored = bytes(sorted(context.signals.ignored))
    context.processes.replace(replace(request, ignored=ignored))


def proc_exec2(
    context: CallContext,
    name: int,
    name_size: int,
    arguments: int,
    arguments_size: int,
    environment: int,
    environment_size: int,
) -> None:
    """Replace the program of the process. A program that cannot be started ends the process."""
    try:
        proc_exec3(
            context,
            name,
            name_size,
            arguments,
            arguments_size,
            environment,
            environment_size,
            1,
            0,
            0,
        )
    except WasiError as error:
        raise ProcExit(_NOT_STARTED) from error


_NOT_STARTED = 127
"""Exit code of a process whose program could not be started, as in a shell."""


def proc_exec(
    context: CallContext, name: int, name_size: int, arguments: int, arguments_size: int
) -> None:
    """Replace the program of the process, which keeps its environment."""
    proc_exec2(context, name, name_size, arguments, arguments_size, 0, 0)


def proc_fork(context: CallContext, copy_memory: int, result: int) -> None:
    """Make a child that continues here, too; write its number, and 0 in the child.

    A fork without a copy of the memory (vfork) makes a copy, too.
    """
    context.memory.check(result, 4)
    if context.signals.is_handling:
        raise WasiError(Errno.NOTSUP)
    context.memory.write_u32(result, context.processes.fork())


def proc_fork_env(context: CallContext, result: int) -> NoReturn:
    """Refuse with ``NOTSUP``: a program can start itself with proc_spawn."""
    context.memory.check(result, 4)
    raise WasiError(Errno.NOTSUP)


def _make_request(
    context: CallContext,
    name: tuple[int, int],
    arguments: tuple[int, int],
    environment: tuple[int, int],
    table: StartTable,
) -> StartRequest:
    """Return the request for a program; a text is a pointer and a size."""
    command = find_command(_read_text(context, *name))
    lines = _read_lines(context, *arguments) or (command.encode(),)
    # A null pointer stands for the environment of this process.
    variables = _read_lines(context, *environment) if environment[0] else tuple(context.environment)
    descriptors, files = table.finish()
    return StartRequest(command, lines, variables, table.directory, descriptors, files)


def find_command(name: str) -> str:
    """Return the command of a path: ``NAME``, ``/bin/NAME`` or ``/usr/bin/NAME``.

    Raises ``WasiError`` with ``NOENT`` for other paths.
    """
    directory, slash, base = name.rpartition("/")
    is_known = directory in _COMMAND_DIRECTORIES and bool(directory or not slash)
    if not (base and is_known and is_utf8(base)):
        raise WasiError(Errno.NOENT)
    return base


def _read_text(context: CallContext, pointer: int, size: int) -> str:
    if size > PATH_SIZE_MAX:
        context.memory.check(pointer, size)
        raise WasiError(Errno.NAMETOOLONG)
    return decode_path(context.memory.read(pointer, size))


def _read_lines(context: CallContext, pointer: int, size: int) -> tuple[bytes, ...]:
    """Return the lines of a text: arguments or environment variables."""
    context.memory.check(pointer, size)
    if size > ARGUMENTS_SIZE_MAX:
        raise WasiError(Errno.TOO_BIG)
    text = context.memory.read(pointer, size)
    if b"\0" in text:
        raise WasiError(Errno.INVAL)
    return tuple(text.removesuffix(b"\n").split(b"\n")) if text else ()


def _join_path(directory: str, path: str) -> str:
    """Return an absolute path; ``path`` is relative to ``directory`` or absolute."""
    if "\0" in path:
        raise WasiError(Errno.INVAL)
    names = split_path(path if path.startswith("/") else f"{directory}/{path}")
    joined = "/" + "/".join(names)
    if len(joined) > GUEST_PATH_SIZE_MAX:
        raise WasiError(Errno.NAMETOOLONG)
    return joined


#: Parameter types (i: i32, l: i64) and handler of each function.
FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "proc_id": ("i", proc_id),
    "proc_parent": ("ii", proc_parent),
    "proc_exit2": ("i", proc_exit2),
    "proc_join": ("iii", proc_join),
    "proc_spawn": ("i" * 13, proc_spawn),
    "proc_spawn2": ("i" * 14, proc_spawn2),
    "proc_spawn3": ("i" * 14, proc_spawn2),
    "proc_exec": ("i" * 4, proc_exec),
    "proc_exec2": ("i" * 6, proc_exec2),
    "proc_exec3": ("i" * 9, proc_exec3),
    "proc_exec4": ("i" * 9, proc_exec3),
    "proc_fork": ("ii", proc_fork),
    "proc_fork_env": ("i", proc_fork_env),
}
