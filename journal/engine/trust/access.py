"""Decision about the access of a resumed guest: by the grants of the user, or by an approval."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from journal.engine.trust.access_request import AccessRequest
from journal.engine.trust.grants import Grants
from journal.engine.wasi.filesystem.mounts import HostMount
from journal.engine.wasi.network.listeners import check_listener
from journal.engine.wasi.network.policy import NO_NETWORK, NetworkPolicy
from journal.errors import GrantsMissing, OptionError
from journal.events.sockets import SocketType

_SHOWN_MAX = 4


@dataclass(frozen=True, slots=True)
class HostAccess:
    """HostAccess to the host that a guest has. By default it has none.

    ``directories`` has the directory of each mount by its guest path; a mount without one is
    closed. ``named`` are the mounts whose directories the user named; the others were approved.
    ``has_module_file`` says whether the module may be read from the path that the journal names.
    ``files_size`` is the approved limit of files in memory, if it is above the default.
    ``network`` is what the guest may do in the network. ``has_listeners`` says whether it may
    listen where it did from its start. ``has_own_names`` says whether the names that it resolved in
    the recording count for the policy: a foreign journal can state any address for a name.
    """

    directories: Mapping[str, HostMount] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    has_module_file: bool = False
    files_size: int = 0
    network: NetworkPolicy = NO_NETWORK
    has_listeners: bool = False
    has_own_names: bool = False


def decide_access(
    request: AccessRequest,
    grants: Grants,
    approvals: Path | None,
    *,
    network: NetworkPolicy | None = None,
    has_module: bool = False,
) -> HostAccess:
    """Return the access of a resumed guest. Raises ``GrantsMissing`` if a part is not granted.

    ``approvals`` is the directory of the approvals, by default that of the user. ``network`` is the
    policy that the user gives, or None for that of the recording; an empty one refuses the
    listeners of the recording, too, unless the user names them. ``has_module`` means that the user
    passed the module, so that the journal's path is not read. Raises ``OptionError`` for a
    granted directory that is no mount of the guest, and for an address at which it did not listen.
    """
    granted = _match_mounts(request, grants)
    is_named = bool(request.module_path) and _is_named(request.module_path, grants)
    asked = replace(
        request,
        mounts=tuple(mount for mount in request.mounts if mount.guest not in granted),
        module_path="" if has_module or is_named else request.module_path,
        listeners=_list_listeners(request, grants, network),
        rules=request.rules if network is None else (),
    )
    missing = asked if asked.is_empty else _subtract_approved(asked, approvals)
    if missing.mounts or missing.module_path or missing.listeners or missing.rules:
        raise _make_error(replace(missing, files_size=0))
    policy, has_own_names = NetworkPolicy.parse(request.rules), True
    if network is not None:
        policy = network
        # The rules are asked only for the question whose journal it is.
        has_own_names = not request.rules or not _subtract_approved(request, approvals).rules
    return HostAccess(
        granted | {mount.guest: mount for mount in asked.mounts},
        frozenset(granted),
        bool(request.module_path) and not has_module,
        request.files_size - missing.files_size,
        policy,
        bool(request.listeners) and not _refuses_listeners(grants, network),
        has_own_names,
    )


def _match_mounts(request: AccessRequest, grants: Grants) -> dict[str, HostMount]:
    """Return the directories that the user grants, by the guest paths of the mounts."""
    mounts = {mount.guest: mount for mount in request.mounts}
    found = {}
    for grant in grants.directories:
        mount = mounts.get(grant.guest)
        if mount is None:
            raise OptionError(
                f"the journal has no mount {grant.guest} of a host directory: it has "
                + (", ".join(sorted(mounts)) or "none")
            )
        is_read_only = grant.read_only or mount.read_only
        host = os.path.realpath(grant.host)  # The user may name a link.
        found[mount.guest] = HostMount(host, mount.guest, is_read_only)
    return found


def _list_listeners(
    request: AccessRequest, grants: Grants, network: NetworkPolicy | None
) -> tuple[str, ...]:
    """Return the addresses of listeners that neither the user names nor a rule covers."""
    for address in grants.listeners:
        if address not in request.listeners:
            known = ", ".join(request.listeners) or "nowhere"
            raise OptionError(
                f"the guest does not listen at {address} from its start: it listens at {known}"
            )
    policy = NO_NETWORK if network is None else network
    if _refuses_listeners(grants, network):
        return ()
    return tuple(
        address
        for address in request.listeners
        if address not in grants.listeners
        and not policy.may_listen(check_listener("listener", address), SocketType.STREAM)
    )


def _refuses_listeners(grants: Grants, network: NetworkPolicy | None) -> bool:
    return network is not None and network.is_empty and not grants.listeners


def _is_named(path: str, grants: Grants) -> bool:
    return any(os.path.realpath(file) == path for file in grants.module_files)


def _subtract_approved(request: AccessRequest, approvals: Path | None) -> AccessRequest:
    """Return the part of a request that no approval of this journal and module covers."""
    from journal.engine.trust.approvals import Approvals  # Most journals ask for nothing.

    requests = [
        approval.request
        for approval in Approvals(approvals).find(request.journal_id)
        if approval.request.module_hash == request.module_hash
    ]
    approved = {mount for each in requests for mount in each.mounts}
    approved |= {replace(mount, read_only=True) for mount in approved}
    paths = {each.module_path for each in requests}
    files_size = max((each.files_size for each in requests), default=0)
    return replace(
        request,
        mounts=tuple(mount for mount in request.mounts if mount not in approved),
        module_path="" if request.module_path in paths else request.module_path,
        files_size=0 if request.files_size <= files_size else request.files_size,
        listeners=_subtract(request.listeners, (each.listeners for each in requests)),
        rules=_subtract(request.rules, (each.rules for each in requests)),
    )


def _subtract(texts: tuple[str, ...], approved: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    known = set(chain.from_iterable(approved))
    return tuple(text for text in texts if text not in known)


def _make_error(missing: AccessRequest) -> GrantsMissing:
    phrases, options = missing.describe(), missing.list_options()
    more = len(phrases) - _SHOWN_MAX
    end = f" and {more} more" if more > 0 else ""
    return GrantsMissing(
        f"the journal asks for {'; '.join(phrases[:_SHOWN_MAX])}{end}, which nobody granted: if "
        f"you trust it, grant this with {' '.join(options[:_SHOWN_MAX])}{' …' if end else ''}, or "
        "approve the journal with journaltool trust",
        phrases,
        options,
    )
