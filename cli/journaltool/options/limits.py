"""Options of the resources that a resumed or replayed journal may use."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool.options import common

if TYPE_CHECKING:
    from journal.engine import ResourcePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyArguments:
    """Options that refuse a journal which may use more than its user allows."""

    max_memory: Annotated[
        int | None,
        common.size_option(
            "Refuse a guest whose memories may be larger together. The default is 64GiB."
        ),
    ] = None
    max_files: Annotated[
        int | None,
        common.size_option(
            "Refuse a guest that may have more in-memory files in a directory. The default is "
            "1GiB, or what this user recorded or approved."
        ),
    ] = None
    max_module: Annotated[
        int | None,
        common.size_option("Refuse a journal with a larger module. The default is 1GiB."),
    ] = None
    max_journal: Annotated[
        int | None,
        common.size_option("Refuse a larger journal. The default is no limit."),
    ] = None
    max_mounts: Annotated[
        int | None,
        typer.Option(
            click_type=common.Number(min=0),
            metavar="NUMBER",
            help="Refuse a guest with more directories. The default is 1024.",
        ),
    ] = None
    max_open_files: Annotated[
        int | None,
        typer.Option(
            click_type=common.Number(min=0),
            metavar="NUMBER",
            help="Refuse a guest that had more host files open. The default is 65536.",
        ),
    ] = None

    def build(self) -> "ResourcePolicy":
        """Return the policy for the library, which has the default limits."""
        from journal.engine import ResourcePolicy

        limits = {
            "memory_size_max": self.max_memory,
            "files_size_max": self.max_files,
            "module_size_max": self.max_module,
            "journal_size_max": self.max_journal,
            "mounts_max": self.max_mounts,
            "open_files_max": self.max_open_files,
        }
        given: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
        return ResourcePolicy(**given)
