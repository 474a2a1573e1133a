"""Functions of WASIX for the working directory.

The working directory is an absolute path of the guest. Only chdir and getcwd use it: the path of
any other call is relative to the directory of the call, and the library of the guest makes it so.
"""

from collections import deque
from typing import NamedTuple

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import OpenDirectory
from journal.events import codec
from journal.events.paths import ChangeDirectory, FileType
from journal.events.wire_types import encode_path
from journal.vfs.path_resolution import LINKS_MAX, PATH_SIZE_MAX, split_path
from journal.wasi_abi import Errno, WasiError

_pack_change = codec.make_late_packer(ChangeDirectory)


def getcwd(context: CallContext, pointer: int, size_pointer: int) -> int:
    """Write the working directory and its size.

    A zero byte follows if there is room. The size is written in any case, so that a guest that gets
    ``RANGE`` knows the size that it needs.
    """
    memory = context.memory
    size_max = int.from_bytes(memory.read(size_pointer, 4), "little")
    path = encode_path(context.working_directory)
    if pointer:
        memory.check(pointer, size_max)
    memory.write_u32(size_pointer, len(path))
    if len(path) > size_max:
        return Errno.RANGE
    if not pointer:
        return Errno.INVAL
    memory.write(pointer, path if len(path) == size_max else path + b"\0")
    return 0


def chdir(context: CallContext, pointer: int, size: int) -> None:
    """Change the working directory."""
    path = context.read_path(pointer, size)
    if not path:
        raise WasiError(Errno.NOENT)
    change_directory(context, _find_directory(context, path))


def change_directory(context: CallContext, path: str) -> None:
    """Make an absolute path, without links and dots, the working directory."""
    context.tape.record_effect(ChangeDirectory.tag, _pack_change(path))
    context.working_directory = path


def is_canonical(path: str) -> bool:
    """Return whether a path is absolute and has neither dots nor empty names."""
    names = split_path(path)
    return path == "/" + "/".join(names) and names.count(".") == names.count("..") == 0


class _Mount(NamedTuple):
    """A directory that the guest had at its start, its descriptor and the names of its path."""

    fd: int
    directory: OpenDirectory
    names: list[str]


def _find_directory(context: CallContext, path: str) -> str:
    """Return the absolute path of a directory, without links and dots.

    Raises ``WasiError`` with ``NOENT``, ``NOTDIR``, ``LOOP``, ``NAMETOOLONG`` or ``PERM``.
    """
    mounts = _list_mounts(context)
    names = [] if path.startswith("/") else split_path(context.working_directory)
    pending = deque(split_path(path))
    links_left = LINKS_MAX
    is_entered = False  # Whether the last name was examined.
    while pending:
        name = pending.popleft()
        if name in (".", ".."):
            del names[max(len(names) - (name == ".."), 0) :]
            is_entered = False
            continue
        names.append(name)
        _check_size(names)
        target = _enter(mounts, names)
        is_entered = target is None
        if target is not None:
            if not links_left:
                raise WasiError(Errno.LOOP)
            links_left -= 1
            names.pop()
            pending.extendleft(reversed(split_path(target)))
    if names and not is_entered and _enter(mounts, names) is not None:
        raise WasiError(Errno.NOTDIR)
    return "/" + "/".join(names)


def _check_size(names: list[str]) -> None:
    if sum(len(encode_path(name)) + 1 for name in names) > PATH_SIZE_MAX:
        raise WasiError(Errno.NAMETOOLONG)


def _list_mounts(context: CallContext) -> list[_Mount]:
    """Return the open directories of the start, those with the longest paths first."""
    mounts = [
        _Mount(fd, descriptor, [name for name in split_path(descriptor.preopen) if name != "."])
        for fd, descriptor in sorted(context.descriptors.used.items())
        if isinstance(descriptor, OpenDirectory) and descriptor.preopen is not None
    ]
    return sorted(mounts, key=lambda mount: -len(mount.names))


def _enter(mounts: list[_Mount], names: list[str]) -> str | None:
    """Check that ``names`` lead to a directory; return the target instead if it is a link.

    The names before the last one are those of a directory. A directory above a mount exists.
    """
    if any(mount.names[: len(names)] == names for mount in mounts):
        return None
    for fd, opened, root in mounts:
        if names[: len(root)] != root:
            continue
        below = names[len(root) :]
        path = "/".join(below)
        filetype = opened.directory.stat_at(fd, path, follow=False).filetype
        if filetype == FileType.DIRECTORY:
            return None
        if filetype != FileType.SYMBOLIC_LINK:
            raise WasiError(Errno.NOTDIR)
        target = opened.directory.read_link(fd, path)
        _check_target(target, len(below) - 1)
        return target
    raise WasiError(Errno.NOENT)


def _check_target(target: str, depth: int) -> None:
    """Raise ``WasiError`` with ``PERM`` if a link, ``depth`` levels below its mount, leaves it."""
    if target.startswith("/"):
        raise WasiError(Errno.PERM)
    for name in split_path(target):
        depth += {"..": -1, ".": 0}.get(name, 1)
        if depth < 0:
            raise WasiError(Errno.PERM)


FUNCTIONS: dict[str, tuple[str, Handler]] = {"chdir": ("ii", chdir), "getcwd": ("ii", getcwd)}
"""Parameter types and handler of each function of WASIX in this module."""
