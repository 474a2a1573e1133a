"""Results of a run of the command line, and the comparison of two runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Ending:
    """Exit code, output and files of a run."""

    code: int
    stdout: bytes
    stderr: bytes
    tree: dict[str, bytes]
    files: dict[str, bytes]


def describe_difference(wanted: Ending, found: Ending) -> str:
    """Return the differences in a few lines, or an empty string."""
    lines = []
    if wanted.code != found.code:
        lines.append(f"it ended with {found.code}, not with {wanted.code}")
    for name in ("stdout", "stderr"):
        lines += _bytes_differ(name, getattr(wanted, name), getattr(found, name))
    for kind in ("tree", "files"):
        one, other = getattr(wanted, kind), getattr(found, kind)
        lines += [f"{kind}: {name} is missing" for name in one.keys() - other.keys()]
        lines += [f"{kind}: {name} is too much" for name in other.keys() - one.keys()]
        for name in one.keys() & other.keys():
            lines += _bytes_differ(f"{kind}: {name}", one[name], other[name])
    return "\n".join(lines)


def _bytes_differ(name: str, wanted: bytes, found: bytes) -> list[str]:
    if wanted == found:
        return []
    pairs, shorter = zip(wanted, found, strict=False), min(len(wanted), len(found))
    at = next((at for at, (one, other) in enumerate(pairs) if one != other), shorter)
    window = slice(max(0, at - 60), at + 100)
    sizes = f"{len(wanted)} bytes wanted, {len(found)} found, the first difference at {at}"
    return [f"{name}: {sizes}", f"  wanted {wanted[window]!r}", f"  found  {found[window]!r}"]


def is_printed_once(wanted: bytes, sessions: list[bytes], writes: list[bytes], drop: bool) -> bool:
    """Return whether a pipe got ``wanted`` once, except for the write in flight at each kill.

    A session resumes at the end of the previous session, or at the start of the write in which or
    with which that session ended. With ``drop`` it resumes at the end of that write or of the next
    write, even if the previous session printed nothing: no process can know what the pipe got.
    """
    bounds = [0, *accumulate(len(data) for data in writes)]

    def starts(place: int) -> set[int]:
        beside = [b for b in bounds if b > place][:1] if drop else []
        return {place, *(beside if drop else [b for b in bounds if b < place][-1:])}

    first, *later = sessions
    places = {len(first)} if wanted.startswith(first) else set()
    for said in later if drop else filter(None, later):
        begun = {start for place in places for start in starts(place)}
        places = {start + len(said) for start in begun if wanted[start:].startswith(said)}
    return len(wanted) in places
