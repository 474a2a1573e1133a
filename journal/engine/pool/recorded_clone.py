"""Clone of a snapshot that is a recorded guest: each session resumes the journal into a new one."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path

from journal.engine.interactive.journal_place import JournalPlace
from journal.engine.interactive.opening import ResumedSessionOptions, resume_session
from journal.engine.interactive.session import Session
from journal.engine.session.reply import Reply
from journal.engine.session.session_limits import SessionLimits
from journal.engine.trust.grants import Grants
from journal.engine.wasi.stdio.outbox import Durability
from journal.errors import JournalExists, NotResumable, OptionError
from journal.log.reader import Reader
from journal.replay import ModelHost, play
from journal.snapshots.catalog import list_snapshots

STACK_SIZE = 8 << 20


class JournalKind(Enum):
    """Journals of sessions that are no files."""

    MEMORY = "memory"
    """The events are kept until the session ends, and can be saved as a journal before."""


MEMORY = JournalKind.MEMORY


class RecordedTemplate:
    """A snapshot of a journal, from which clones begin."""

    stack_size = STACK_SIZE

    def __init__(self, path: Path, at: int, options: ResumedSessionOptions) -> None:
        self.path, self.at, self.options = path, at, options
        with Reader(path) as reader:
            host = ModelHost()
            play(reader.frames(), host, upto=at)
        self.output_sizes = len(host.stdout), len(host.stderr)
        """Sizes of the output before the snapshot, which a resume delivers again."""

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        at: int | None,
        grants: Grants,
        secrets: Mapping[str, str],
        cache: Path | None,
        approvals: Path | None,
    ) -> "RecordedTemplate":
        """Return the template of the snapshot ``at``, or of the newest one."""
        with Reader(path) as reader:
            found = [info.seq for info in list_snapshots(reader) if info.resumable]
        if at is None and found:
            at = found[-1]
        if at not in found:
            missing = "no snapshot" if at is None else f"no snapshot at event {at}"
            raise NotResumable(f"{path} has {missing} that can be resumed")
        options: ResumedSessionOptions = {"at": at, "grants": grants, "secrets": secrets}
        if cache is not None:
            options["cache"] = cache
        if approvals is not None:
            options["approvals"] = approvals
        return cls(path, at, options)

    def make_clone(self) -> "RecordedClone":
        """Return a clone."""
        return RecordedClone(self)

    def close(self) -> None:
        """Do nothing: a template holds no resource."""


class RecordedClone:
    """One guest at a snapshot. ``stop`` may be called from another thread."""

    def __init__(self, template: RecordedTemplate) -> None:
        self._template = template
        self._place: JournalPlace | None = None
        self._session: Session | None = None
        self._keeps_journal = False
        self._skipped_sizes = template.output_sizes

    def begin(self, *, limits: SessionLimits, journal: JournalKind | str | None = None) -> None:
        """Begin a session at the snapshot."""
        template = self._template
        is_named = isinstance(journal, str)
        if is_named and Path(journal).exists():  # type: ignore[arg-type]
            raise JournalExists(f"{journal} exists: choose another path", str(journal))
        self._place = JournalPlace(journal if isinstance(journal, str) else None)
        self._skipped_sizes = template.output_sizes
        self._keeps_journal = isinstance(journal, JournalKind)
        options: ResumedSessionOptions = {
            **template.options,
            "into": self._place.path,
            "durability": Durability.OUTPUT if is_named else Durability.NONE,
        }
        self._session = resume_session(template.path, limits=limits, **options).open()

    def run(self, data: bytes, *, end_input: bool = False) -> Reply:
        """Feed the guest, and return its output."""
        reply = self._get_session().run(data, end_input=end_input)
        stdout_size, stderr_size = self._skipped_sizes
        self._skipped_sizes = 0, 0
        return replace(reply, stdout=reply.stdout[stdout_size:], stderr=reply.stderr[stderr_size:])

    def read_file(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest."""
        return self._get_session().read_file(path)

    @property
    def files(self) -> dict[str, bytes]:
        """Return all regular in-memory files by their paths in the guest."""
        return self._get_session().files

    def save_journal(self, path: Path) -> None:
        """Write the journal of the session, as it is now."""
        if not self._keeps_journal:
            raise OptionError("the session keeps no journal in memory: pass journal=MEMORY")
        assert self._place is not None
        source = self._place.path
        if source.is_dir():
            shutil.copytree(source, path)
        else:
            shutil.copy(source, path)

    def _get_session(self) -> Session:
        if self._session is None:
            raise OptionError("no session has begun")
        return self._session

    def stop(self) -> None:
        """Request the guest to stop."""
        if self._session is not None:
            self._session.recorder.stop()

    def reset(self) -> None:
        """End the session. The next one begins at the snapshot."""
        session, self._session = self._session, None
        if session is not None:
            session.close()
        if self._place is not None:
            self._place.remove()
            self._place = None

    def check(self) -> None:
        """Do nothing: the next session shares no state with the last one."""

    def close(self) -> None:
        """End the session."""
        self.reset()
