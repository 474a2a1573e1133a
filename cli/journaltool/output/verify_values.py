"""Results of ``verify`` as JSON values. The module is quick to import in a worker process."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from journal.log import Finding
    from journal.log.scan import Debris
    from journal.operations.verify import Verifier

FINDINGS_SHOWN_MAX = 100


def verify_one(
    path: Path, *, decode: bool, pages: bool, headers: bool, signed_by: str | None
) -> dict[str, Any]:
    """Return the result for one of many journals: the work of a worker process."""
    from journal.operations.verify import Verifier

    if signed_by is not None:
        from journal import NotSigned, PublicKey
        from journal.log import check_signature

        try:
            check_signature(path, PublicKey.parse(signed_by))
        except NotSigned as error:
            return {"journal": str(path), "verdict": "not signed", "message": str(error)}
    check = Verifier(path, decode=decode, pages=pages, headers=headers)
    found = run_check(check, None)
    return {"journal": str(path), **to_json(check, *found)}


def run_check(check: "Verifier", deadline: float | None) -> "tuple[list[Finding], list[Debris]]":
    """Run the check, and return the first findings and debris."""
    from journal.log.scan import Debris

    findings: list[Finding] = []
    debris: list[Debris] = []
    stop = None if deadline is None else lambda: time.monotonic() >= deadline
    for one in check.run(stop):
        if isinstance(one, Debris):
            if len(debris) < FINDINGS_SHOWN_MAX:
                debris.append(one)
        elif len(findings) < FINDINGS_SHOWN_MAX:
            findings.append(one)
    return findings, debris


def to_json(check: "Verifier", findings: "list[Finding]", debris: "list[Debris]") -> dict[str, Any]:
    """Return the result of the check as JSON values."""
    figures, tail = check.counts, check.tail
    torn_size = tail.torn_size if tail else 0
    verdict = "damaged" if figures.findings else "torn" if torn_size else "whole"
    if check.cursor is not None and not figures.findings:
        verdict = "unfinished"
    return {
        "verdict": verdict,
        "finished": check.cursor is None,
        "cursor": None if check.cursor is None else str(check.cursor),
        "size": check.size,
        "segments": figures.segments,
        "blocks": figures.blocks,
        "events": figures.events,
        "tail": tail.offset if tail else None,
        "tail_file": tail.segment.name if tail else None,
        "torn_size": torn_size,
        "debris_size": figures.debris_size,
        "debris_count": figures.debris_count,
        "debris": [
            {
                "file": one.name,
                "offset": one.offset,
                "size": one.size,
                "superseded": one.is_superseded,
            }
            for one in debris
        ],
        "unknown_events": figures.unknown_events,
        "named_pages": figures.referenced_pages,
        "gaps": figures.gaps,
        "lost_events": figures.lost_events,
        "lost_size": figures.lost_size,
        "findings_count": figures.findings,
        "findings": [_finding_to_json(one) for one in findings],
    }


def _finding_to_json(finding: "Finding") -> dict[str, Any]:
    return {
        "error": type(finding.error).__name__,
        "message": str(finding.error),
        "file": finding.error.file,
        "offset": finding.offset,
        "size": finding.size,
        "first_seq": finding.first_seq,
        "last_seq": finding.last_seq,
        "durable": bool(getattr(finding.error, "acknowledged", False)),
    }
