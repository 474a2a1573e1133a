"""Approvals: records of the user, in a private directory, of what journals get on this machine.

A recording writes one, so that its user can resume it without options. Each approval is a file: a
line of JSON, and a line with its authentication code. The key is in the same directory. So an
approval is believed only if this user wrote it. It is bound to a journal id and to the hash of a
module.
"""

import hmac
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from journal._arguments import check_bytes, check_optional, check_path, check_type
from journal.engine.trust.access_request import AccessRequest
from journal.engine.wasi.filesystem.mounts import HostMount
from journal.fs import atomic_file
from journal.fs.user_key import UserKey, find_key, make_key

APPROVALS_COUNT_MAX = 4096
"""Largest number of approvals. The oldest ones make room for new ones."""
APPROVAL_SIZE_MAX = 1 << 20
"""Largest size of one approval in bytes."""

_KEY_NAME = "key"
_PURPOSE = "approval"
_SUFFIX = ".approval"
_VERSION = 1
_NAME_HASH_SIZE = 8
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Approval:
    """Access that the user has approved for one journal, and when, in seconds since the epoch."""

    request: AccessRequest
    time: int


def get_default_directory() -> Path:
    """Return the directory of the approvals of this user."""
    import pwd  # Windows has no such module.

    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return home / ".local" / "state" / "wasm-journal" / "approvals"


class Approvals:
    """The approvals of the user in one directory, by default that of ``get_default_directory``.

    Nothing is read or written before the first call.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = check_optional("directory", directory, check_path)

    @property
    def directory(self) -> Path:
        """Return the directory, which may not exist."""
        return get_default_directory() if self._directory is None else self._directory

    def find(self, journal_id: bytes | None = None) -> list[Approval]:
        """Return the approvals of a journal, or all, the oldest first.

        Files that are no approvals of this user are ignored.
        """
        check_optional("journal_id", journal_id, check_bytes)
        key = find_key(self.directory / _KEY_NAME)
        if key is None or _find_fault(self.directory):
            return []
        found = []
        for path in self._list_files(journal_id):
            approval = _read(path, key)
            # A renamed file is no approval of another journal.
            if approval is not None and journal_id in (None, approval.request.journal_id):
                found.append(approval)
        return sorted(found, key=lambda approval: approval.time)

    def add(self, request: AccessRequest) -> None:
        """Approve a request durably. Raises OSError if the approval cannot be stored."""
        check_type("request", request, AccessRequest)
        directory = self.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fault = _find_fault(directory)
        if fault:
            raise PermissionError(f"{directory} {fault}")
        key = make_key(directory / _KEY_NAME)
        data = _pack(Approval(request, int(time.time())), key)
        if len(data) > APPROVAL_SIZE_MAX:
            raise OSError(f"the approval has {len(data)} bytes, at most {APPROVAL_SIZE_MAX}")
        atomic_file.replace(directory / _make_name(request), data)
        self._remove_oldest()

    def revoke(self, journal_id: bytes) -> int:
        """Remove the approvals of a journal, and return their number."""
        count = 0
        for path in self._list_files(check_bytes("journal_id", journal_id)):
            path.unlink()
            count += 1
        if count:
            atomic_file.sync_directory(self.directory)
        return count

    def _list_files(self, journal_id: bytes | None) -> list[Path]:
        prefix = "" if journal_id is None else f"{journal_id.hex()}-"
        with suppress(OSError):
            names = os.listdir(self.directory)  # noqa: PTH208 (names alone are faster)
            return [
                self.directory / name
                for name in names
                if name.startswith(prefix) and name.endswith(_SUFFIX)
            ]
        return []

    def _remove_oldest(self) -> None:
        """Remove the oldest files above the limit, also temporary files that a crash left."""
        if len(os.listdir(self.directory)) <= APPROVALS_COUNT_MAX + 1:  # noqa: PTH208 (as above)
            return
        with suppress(OSError):  # Another process may do the same.
            ages = sorted(_list_ages(self.directory))
            for _, path in ages[: len(ages) - APPROVALS_COUNT_MAX]:
                path.unlink()


def _list_ages(directory: Path) -> Iterator[tuple[int, Path]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name != _KEY_NAME:
                yield entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)


def _find_fault(directory: Path) -> str:
    """Return why a directory is not private to this user; empty if it is."""
    try:
        status = directory.lstat()
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    if not stat.S_ISDIR(status.st_mode):
        return "is not a directory"
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    return "can be used by other users" if status.st_mode & 0o077 else ""


def _make_name(request: AccessRequest) -> str:
    """Return the file name of an approval: one for each request of a journal."""
    content = json.dumps(_to_json(request)).encode()
    digest = blake2b(content, digest_size=_NAME_HASH_SIZE).hexdigest()
    return f"{request.journal_id.hex()}-{digest}{_SUFFIX}"


def _to_json(request: AccessRequest) -> dict[str, object]:
    return {
        "version": _VERSION,
        "journal": request.journal_id.hex(),
        "module": request.module_hash.hex(),
        "module_path": request.module_path,
        "files_size": request.files_size,
        "mounts": [[mount.host, mount.guest, mount.read_only] for mount in request.mounts],
        **{
            # The file names of older approvals stay as they are.
            name: list(texts)
            for name, texts in (("listeners", request.listeners), ("rules", request.rules))
            if texts
        },
    }


def _pack(approval: Approval, key: UserKey) -> bytes:
    line = json.dumps({**_to_json(approval.request), "time": approval.time}).encode() + b"\n"
    return line + _authenticate(line, key) + b"\n"


def _authenticate(line: bytes, key: UserKey) -> bytes:
    return key.compute_mac(_PURPOSE, line).hex().encode()


def _read(path: Path, key: UserKey) -> Approval | None:
    """Return the approval in a file, or None if this user did not write it."""
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
        with open(descriptor, "rb") as file:  # noqa: PTH123 (this is a descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = file.read(APPROVAL_SIZE_MAX + 1)
    except OSError:
        return None
    line, newline, seal = data.partition(b"\n")
    if not hmac.compare_digest(seal, _authenticate(line + newline, key) + b"\n"):
        return None
    values = json.loads(line)
    if values["version"] != _VERSION:
        return None
    mounts = tuple(HostMount(*fields) for fields in values["mounts"])
    request = AccessRequest(
        bytes.fromhex(values["journal"]),
        bytes.fromhex(values["module"]),
        mounts,
        values["module_path"],
        values["files_size"],
        tuple(values.get("listeners", ())),
        tuple(values.get("rules", ())),
    )
    return Approval(request, values["time"])
