"""Check of a resume without the guest: whether a journal can be resumed here and now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from journal._arguments import check_optional, check_path, check_type
from journal.engine.session import preamble
from journal.engine.session.host_check import compare_host, read_times
from journal.engine.session.journal_trust import decide
from journal.engine.session.preamble_check import check_first
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.resource_policy import ResourcePolicy, check_journal, check_policy
from journal.engine.session.resume_plan import foresee_start
from journal.engine.session.run_config import Input, RunConfig, StrPath, check_module
from journal.engine.session.secret_environment import SecretValue, check_secrets
from journal.engine.session.standard_streams import connect_streams
from journal.engine.session.tree_journals import read_tree
from journal.engine.snapshot.restore import base_snapshots, iter_pages
from journal.engine.trust.grants import Grants
from journal.engine.wasi.network.policy import NetworkPolicy
from journal.errors import EngineError, JournalError, ResourceRefused
from journal.log.lock_holder import find_writer
from journal.log.tail_recovery import check_tail
from journal.rewrite.progress import ProgressCallback, ignore_progress, report_phase
from journal.snapshots.catalog import SnapshotInfo


@dataclass(frozen=True, slots=True)
class ResumeCheck:
    """Result of :func:`check_resume`.

    ``differences`` has one sentence for each difference between the host and the recording.
    ``obstacle`` is the reason why a resume would be refused even if it is not strict, or empty.
    ``has_ended`` says whether the program had ended, so that nothing is compared. ``snapshot`` is
    the sequence number of the snapshot at which a resume would start, None for the start of the
    program. ``writer`` is the id of the process that writes the journal, so that a resume is
    refused: None if there is no such process, 0 if its id is not known.
    """

    differences: tuple[str, ...] = ()
    obstacle: str = ""
    has_ended: bool = False
    snapshot: int | None = None
    writer: int | None = None

    @property
    def is_exact(self) -> bool:
        """Return whether a resume would continue, on a host that is as the recording left it."""
        return not self.differences and not self.obstacle


def check_resume(  # long: each option is a keyword with its documentation
    path: StrPath,
    *,
    module: bytes | StrPath | None = None,
    grants: Grants | None = None,
    secrets: Mapping[str, str | SecretValue] | None = None,
    stdin: Input = None,
    cache: Path | None = None,
    approvals: Path | None = None,
    network: NetworkPolicy | None = None,
    policy: ResourcePolicy | None = None,
    progress: ProgressCallback = ignore_progress,
) -> ResumeCheck:
    """Compare the host with the recording as :func:`resume` does, without running the guest.

    The options are those of :func:`resume`. All that a resume would read of the journal is read.
    Files that the guest had open are opened and closed again. Nothing is written, and the journal
    may be one that another process writes. Raises ``OptionError`` for invalid options, and the
    errors of a reader for a journal that is damaged.
    """
    journal = check_path("path", path)
    check_optional("module", module, check_module)
    grants = Grants() if grants is None else check_type("grants", grants, Grants)
    approvals = check_optional("approvals", approvals, check_path)
    check_optional("network", network, check_type, NetworkPolicy)
    values = check_secrets(secrets)
    cache = check_optional("cache", cache, check_path)
    config = RunConfig(stdin=stdin, progress=progress)
    policy = check_policy(policy)
    writer = find_writer(journal)
    obstacle = "" if writer is None else f"{describe_writer(writer)} writes the journal"
    try:
        check_journal(journal, policy)
        with report_phase(progress, "reading the journal"):
            until = check_tail(journal) if writer is None else None
            recording = RecordedRun(journal, until, policy)
    except ResourceRefused as error:
        return ResumeCheck(obstacle=str(error), writer=writer)
    with recording:
        has_ended = recording.result is not None
        snapshot: SnapshotInfo | None = None
        differences: tuple[str, ...] = ()
        try:
            with report_phase(progress, "comparing the host"):
                if not has_ended:
                    preamble.check_engine(recording.identity)
                    has_module = module is not None
                    access = decide(
                        recording, grants, approvals, network=network, has_module=has_module
                    )
                    found = preamble.find_module(recording.identity, module, access)
                    preamble.set_secrets(recording.identity, values)
                    source = connect_streams(config, recording.histories).source
                    times = read_times(recording)
                    differences = compare_host(recording, source, access, times)
            with report_phase(progress, "reading the recorded run"):
                if not has_ended:
                    snapshot = foresee_start(recording, found, cache)
                read_rest(recording, snapshot)
        except EngineError as error:
            obstacle = str(error)
        seq = None if snapshot is None else snapshot.seq
        return ResumeCheck(differences, obstacle, has_ended, seq, writer)


def find_recording_obstacle(path: StrPath, cache: Path | None) -> str:
    """Return the reason why no host can resume a journal that nobody writes; empty if one can.

    All that a resume would read of the journal is read, and nothing is written. The host, the
    engine and the access to the host are not checked.
    """
    try:
        with RecordedRun(Path(path), check_tail(Path(path))) as recording:
            module = recording.identity.module
            snapshot = None
            if recording.result is None:
                check_first(recording.identity.child)
                read_tree(Path(path))
            if recording.result is None and module is not None:
                snapshot = foresee_start(recording, module, cache)
            read_rest(recording, snapshot)
    except JournalError as error:
        return str(error)
    return ""


def read_rest(recording: RecordedRun, snapshot: SnapshotInfo | None) -> None:
    """Read the events that a resume reads after its plan. Raises the errors of a reader."""
    for _ in recording.writes(recording.end_seq):
        pass
    if recording.result is not None:
        return
    first_seq = recording.first_seq
    if snapshot is not None:
        first_seq = snapshot.seq + 1
        for _ in iter_pages(recording.reader, base_snapshots(recording.snapshots, snapshot)):
            pass
    for _ in recording.batches(first_seq):
        pass


def describe_writer(pid: int) -> str:
    """Return a phrase for the process that writes a journal."""
    return f"process {pid}" if pid else "another process"
