"""Trust in a journal: its access request, the approval of a recording, and that by the user."""

from dataclasses import replace
from pathlib import Path

from journal._arguments import check_optional, check_path
from journal.engine.session import preamble
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.resource_policy import check_files
from journal.engine.session.run_config import RunConfig, StrPath
from journal.engine.trust.access import HostAccess, decide_access
from journal.engine.trust.access_request import AccessRequest
from journal.engine.trust.grants import Grants
from journal.engine.wasi.network.policy import NO_NETWORK, NetworkPolicy
from journal.errors import GrantsMissing, OptionError
from journal.log.reader import Reader


def decide(
    recording: RecordedRun,
    grants: Grants,
    approvals: Path | None,
    *,
    network: NetworkPolicy | None,
    has_module: bool,
) -> HostAccess:
    """Return the access of a recorded run that is resumed. Raises ``GrantsMissing``.

    The remaining output of a program that has ended is delivered without access: it is not refused.
    """
    request = preamble.make_request(recording.reader.journal_id, recording.identity)
    try:
        access = decide_access(request, grants, approvals, network=network, has_module=has_module)
    except GrantsMissing:
        if recording.result is None:
            raise
        return HostAccess()
    if recording.result is None:
        check_recorded_files(recording, access)
    return access


def check_recorded_files(recording: RecordedRun, access: HostAccess) -> None:
    """Raise ``ResourceRefused`` if the files in memory of a guest may exceed the policy."""
    identity = recording.identity
    mounts, size = identity.memory_mount_count, access.files_size
    check_files(identity.configuration, mounts, size, recording.policy)


def decide_module(
    recording: RecordedRun, approvals: Path | None, *, has_module: bool
) -> HostAccess:
    """Return the access of a recorded run that is replayed: at most to the file of its module.

    Raises ``GrantsMissing`` if the file is needed and not approved, and ``ResourceRefused`` if the
    files in memory may exceed the policy.
    """
    request = preamble.make_request(recording.reader.journal_id, recording.identity)
    request = replace(request, mounts=(), listeners=(), rules=())
    access = decide_access(request, Grants(), approvals, has_module=has_module)
    check_recorded_files(recording, access)
    return access


def approve_recording(
    journal_id: bytes, identity: preamble.Identity, config: RunConfig
) -> HostAccess:
    """Approve the access of a run that its user starts, for its resumes, and return the access."""
    request = preamble.make_request(journal_id, identity)
    _approve(request, config)
    return HostAccess(
        {mount.guest: mount for mount in request.mounts},
        network=config.network or NO_NETWORK,
        has_listeners=True,
        has_own_names=True,
    )


def _approve(request: AccessRequest, config: RunConfig) -> None:
    """Store an approval. If that fails, the run goes on: one note tells the options of a resume."""
    if request.is_empty:
        return
    try:
        _add(request, config.approvals)
    except (OSError, OptionError) as error:
        options = " ".join(request.list_options())
        config.note(f"a resume will need {options}, because no approval was stored: {error}")


def _add(request: AccessRequest, approvals: Path | None) -> None:
    from journal.engine.trust.approvals import Approvals  # Most runs need none.

    Approvals(approvals).add(request)


def read_request(path: StrPath) -> AccessRequest:
    """Return the access to the host that a resume of the journal at ``path`` needs.

    Raises ``NotResumable`` for a journal without a process.
    """
    with Reader(check_path("path", path)) as reader:
        identity, _ = preamble.read(reader.blocks())
        return preamble.make_request(reader.journal_id, identity)


def approve(path: StrPath, *, approvals: StrPath | None = None) -> AccessRequest:
    """Approve what the journal at ``path`` asks for, so that a resume needs no grants; return it.

    The approval is stored in the directory ``approvals`` (default: that of the user). It holds for
    each copy of the journal on this machine. Raises ``OptionError`` if it cannot be stored.
    """
    directory = check_optional("approvals", approvals, check_path)
    request = read_request(path)
    if not request.is_empty:
        try:
            _add(request, directory)
        except OSError as error:
            raise OptionError(f"the approval cannot be stored: {error}") from error
    return request
