"""Grants: the access to the host that a user gives to a resumed guest."""

from collections.abc import Sequence
from dataclasses import dataclass

from journal._arguments import check_each, check_flag, check_path, check_text, check_type
from journal.engine.wasi.filesystem.mounts import HostMount
from journal.engine.wasi.network.addresses import format_address
from journal.engine.wasi.network.listeners import check_listener
from journal.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Directories, module files and listeners of the host that a resumed guest gets.

    A mount of the journal with the guest path of one of ``directories`` gets that directory of the
    host. It is read-only if the journal or the grant says so. ``module_files`` are the files from
    which a module may be read if a journal names them instead of storing the module. ``listeners``
    are addresses ``HOST:PORT`` at which the guest listens from its start.
    """

    directories: Sequence[HostMount] = ()
    module_files: Sequence[str] = ()
    listeners: Sequence[str] = ()

    def __post_init__(self) -> None:
        mounts = check_each("directories", self.directories, _check_mount, what="HostMounts")
        files = check_each("module_files", self.module_files, check_path, what="paths")
        names = [mount.guest for mount in mounts]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise OptionError(f"two directories are granted for the mount {name}: name one")
        object.__setattr__(self, "directories", tuple(mounts))
        object.__setattr__(self, "module_files", tuple(map(str, files)))
        listeners = check_each("listeners", self.listeners, check_listener, what="addresses")
        object.__setattr__(self, "listeners", tuple(map(format_address, listeners)))


def _check_mount(name: str, value: object) -> HostMount:
    mount = check_type(name, value, HostMount)
    check_path("the directory of a grant", mount.host)
    check_text("the guest path of a grant", mount.guest)
    check_flag("read_only of a grant", mount.read_only)
    return mount
