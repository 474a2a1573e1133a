"""Table of the WASI and WASIX functions that a guest may import.

A function receives the call context of its process and the arguments of the guest. It returns an
errno (None means success) or raises ``WasiError``. It reads and writes the memory of the guest
itself; inputs and effects pass through the tape of the process.
"""

from journal.engine.runtime.bindings import Handler, Signature
from journal.engine.wasi.functions import (
    clocks,
    descriptors,
    paths,
    polling,
    preview_0,
    process,
    signals,
    sockets,
    streams,
    wasix,
)
from journal.wasi_abi import MODULE, Errno, MemoryFault

_I, _L = "i32", "i64"

#: Parameter types (i: i32, l: i64) and handler of each function.
_TABLE: dict[str, tuple[str, Handler]] = {
    "args_get": ("ii", process.args_get),
    "args_sizes_get": ("ii", process.args_sizes_get),
    "environ_get": ("ii", process.environ_get),
    "environ_sizes_get": ("ii", process.environ_sizes_get),
    "clock_res_get": ("ii", clocks.clock_res_get),
    "clock_time_get": ("ili", clocks.clock_time_get),
    "fd_advise": ("illi", descriptors.fd_advise),
    "fd_allocate": ("ill", descriptors.fd_allocate),
    "fd_close": ("i", descriptors.fd_close),
    "fd_datasync": ("i", descriptors.fd_datasync),
    "fd_fdstat_get": ("ii", descriptors.fd_fdstat_get),
    "fd_fdstat_set_flags": ("ii", descriptors.fd_fdstat_set_flags),
    "fd_fdstat_set_rights": ("ill", descriptors.fd_fdstat_set_rights),
    "fd_filestat_get": ("ii", descriptors.fd_filestat_get),
    "fd_filestat_set_size": ("il", descriptors.fd_filestat_set_size),
    "fd_filestat_set_times": ("illi", descriptors.fd_filestat_set_times),
    "fd_pread": ("iiili", streams.fd_pread),
    "fd_prestat_get": ("ii", descriptors.fd_prestat_get),
    "fd_prestat_dir_name": ("iii", descriptors.fd_prestat_dir_name),
    "fd_pwrite": ("iiili", streams.fd_pwrite),
    "fd_read": ("iiii", streams.fd_read),
    "fd_readdir": ("iiili", descriptors.fd_readdir),
    "fd_renumber": ("ii", descriptors.fd_renumber),
    "fd_seek": ("ilii", streams.fd_seek),
    "fd_sync": ("i", descriptors.fd_sync),
    "fd_tell": ("ii", streams.fd_tell),
    "fd_write": ("iiii", streams.fd_write),
    "path_create_directory": ("iii", paths.path_create_directory),
    "path_filestat_get": ("iiiii", paths.path_filestat_get),
    "path_filestat_set_times": ("iiiilli", paths.path_filestat_set_times),
    "path_link": ("iiiiiii", paths.path_link),
    "path_open": ("iiiiillii", paths.path_open),
    "path_readlink": ("iiiiii", paths.path_readlink),
    "path_remove_directory": ("iii", paths.path_remove_directory),
    "path_rename": ("iiiiii", paths.path_rename),
    "path_symlink": ("iiiii", paths.path_symlink),
    "path_unlink_file": ("iii", paths.path_unlink_file),
    "poll_oneoff": ("iiii", polling.poll_oneoff),
    "proc_exit": ("i", process.proc_exit),
    "proc_raise": ("i", signals.proc_raise),
    "random_get": ("ii", process.random_get),
    "sched_yield": ("", process.sched_yield),
    "sock_accept": ("iii", sockets.sock_accept),
    "sock_recv": ("iiiiii", sockets.sock_recv),
    "sock_send": ("iiiii", sockets.sock_send),
    "sock_shutdown": ("ii", sockets.sock_shutdown),
}


_LOOKUP, _OFLAGS, _FDFLAGS, _FSTFLAGS = 1, 15, 31, 15
_RIGHTS = (1 << 30) - 1

#: Largest value of each argument that is an enumeration or a set of flags, by argument index. A
#: value outside the specification is a fault of the guest, like a bad pointer.
_ARGUMENT_MAX: dict[str, dict[int, int]] = {
    "clock_res_get": {0: 3},
    "fd_advise": {3: 5},
    "fd_fdstat_set_flags": {1: _FDFLAGS},
    "fd_fdstat_set_rights": {1: _RIGHTS, 2: _RIGHTS},
    "fd_filestat_set_times": {3: _FSTFLAGS},
    "fd_seek": {2: 2},
    "path_filestat_get": {1: _LOOKUP},
    "path_filestat_set_times": {1: _LOOKUP, 6: _FSTFLAGS},
    "path_link": {1: _LOOKUP},
    "path_open": {1: _LOOKUP, 4: _OFLAGS, 5: _RIGHTS, 6: _RIGHTS, 7: _FDFLAGS},
    "sock_accept": {1: _FDFLAGS},
    "sock_recv": {3: 15},
    "sock_shutdown": {1: 3},
}


def _check_arguments(name: str, handler: Handler) -> Handler:
    """Return ``handler``, preceded by a check of its enumerations and flags if it has any."""
    largest = tuple(_ARGUMENT_MAX.get(name, {}).items())

    def check_and_call(context: object, *arguments: int) -> int | None:
        for index, limit in largest:
            if arguments[index] > limit:
                # The text becomes the kind of ProcessTrap, which a replay compares.
                raise MemoryFault(f"argument {index + 1} of {name} is {arguments[index]:#x}")
        return handler(context, *arguments)

    return check_and_call if largest else handler


#: Functions that return nothing; all others return an errno.
_NO_RESULT = frozenset(
    (
        *("proc_exit", "proc_exit2", "proc_exec", "proc_exec2"),
        *("callback_signal", "stack_restore", "thread_exit"),
    )
)


def _signature(name: str, parameters: str) -> Signature:
    kinds = {"i": _I, "l": _L}
    return tuple(kinds[letter] for letter in parameters), () if name in _NO_RESULT else (_I,)


#: Functions that a guest may import from ``wasi_snapshot_preview1``.
PREVIEW_1: dict[str, tuple[Signature, Handler]] = {
    name: (_signature(name, parameters), _check_arguments(name, handler))
    for name, (parameters, handler) in _TABLE.items()
}

#: Functions that a guest may import from ``wasi_unstable``.
PREVIEW_0: dict[str, tuple[Signature, Handler]] = PREVIEW_1 | {
    name: (PREVIEW_1[name][0], _check_arguments(name, handler))
    for name, handler in preview_0.HANDLERS.items()
}
for _name in preview_0.ABSENT:
    del PREVIEW_0[_name]


def _return_fault(name: str, handler: Handler) -> Handler:
    """Return ``handler``, with an errno for a bad pointer instead of a trap, as on Wasmer."""

    def call(context: object, *arguments: int) -> int | None:
        try:
            return handler(context, *arguments)
        except MemoryFault:
            return Errno.MEMVIOLATION

    return handler if name in _NO_RESULT else call


#: Functions that a guest may import from ``wasix_32v1``: those of preview 1, and further ones.
WASIX: dict[str, tuple[Signature, Handler]] = PREVIEW_1 | {
    name: (_signature(name, parameters), _return_fault(name, handler))
    for name, (parameters, handler) in wasix.FUNCTIONS.items()
}

#: Functions that a guest may import, by module and name.
IMPORTS = {MODULE: PREVIEW_1, preview_0.MODULE: PREVIEW_0, wasix.MODULE: WASIX}
