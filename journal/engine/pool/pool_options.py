"""Options that a pool sends to its workers."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from journal.engine.pool.recorded_clone import RecordedTemplate
from journal.engine.session.session_limits import SessionLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Options of a pool that its workers need.

    ``path`` and ``at`` name the snapshot, ``slot_count`` is the number of slots of each worker.
    """

    path: Path
    at: int | None = None
    slot_count: int = 1
    limits: SessionLimits = field(default_factory=SessionLimits)
    is_paranoid: bool = False
    cache: Path | None = None
    approvals: Path | None = None

    def load_template(self) -> RecordedTemplate:
        """Return the template of the snapshot. Raises as its ``load`` does."""
        return RecordedTemplate.load(
            self.path, at=self.at, cache=self.cache, approvals=self.approvals
        )

    def to_values(self) -> dict[str, Any]:
        """Return the options as plain values."""
        values = asdict(self)
        for name in ("path", "cache", "approvals"):
            values[name] = None if values[name] is None else str(values[name])
        return values

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "PoolOptions":
        """Return the options of plain values that ``to_values`` made."""
        paths = {name: values[name] for name in ("path", "cache", "approvals")}
        limits = SessionLimits(**values["limits"])
        return cls(
            **values
            | {"limits": limits}
            | {name: None if path is None else Path(path) for name, path in paths.items()}
        )
