"""``journaltool index``: which pages of memory a journal is known to have."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal

if TYPE_CHECKING:
    from journal.pages.page_index import PageIndex

HELP = """Tell of a journal's page index, check it, or make it anew.

The index stands beside the journal, as JOURNAL.pages, when a run with --page-index has ended. It is
made from the journal, which needs it for nothing: without it, or where it does not fit, a run that
goes on makes it again. What is told of reuse is read from the journal itself.

--check compares each entry with the bytes of the page that it leads to.
"""

EPILOG = """\b
Exit codes:
  0  told, made or removed; with --check: none, or as it should be         2  wrong usage
  1  the journal cannot be read, or is none; the index cannot be written
  3  the journal is damaged; with --check, the index does not fit, or is wrong
  5  blocks of the journal are missing      6  what is lost of it had been durable

\b
Examples:
  journaltool index work.journal
  journaltool index --rebuild work.journal
  journaltool index --check --json work.journal
"""


def index(
    journal: common.JournalArgument,
    check: Annotated[bool, typer.Option("--check", help="Compare it with the journal.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make it anew.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Remove it.")] = False,
    quiet: common.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Tell of a page index (the help text is HELP)."""
    if check + rebuild + drop > 1:
        raise typer.BadParameter("one of --check, --rebuild and --drop is enough")
    with exit_codes.reporting_errors(about=journal):
        exit_codes.raise_on_sigint()
        from journal import Reader
        from journal.operations import statistics
        from journal.pages.index_store import get_index_path
        from journal.pages.page_index import PageIndex

        Reader(journal).close()  # whether it is one
        path = get_index_path(journal)
        if drop:
            path.unlink(missing_ok=True)
        with PageIndex(journal, key=_open_key()) as found:
            fits = _rebuild(found) if rebuild else found.open(size_max=0)
            known = to_json(found, journal, path, fits)
            if check and fits:
                known |= found.check()._asdict()
            if not check:
                with progress.show_bar(not quiet) as on_progress:
                    known |= _count_references(
                        statistics.collect_statistics(journal, progress=on_progress)
                    )
        if as_json:
            typer.echo(json.dumps(known, indent=2))
        elif not quiet:
            report(known)
    is_wrong = check and known["index"] and (not fits or known["wrong"])
    raise typer.Exit(exit_codes.ExitCode.DAMAGED if is_wrong else exit_codes.ExitCode.FINE)


def _open_key() -> Any:
    """The secret, which stands beside the modules that are kept."""
    from journal.pages.user_key import load_key

    cache = common.module_cache()
    return load_key(None if cache is None else cache.parent / "pages.key")


def _rebuild(found: "PageIndex") -> bool:
    """Make the index anew, and put it beside the journal."""
    from journal import OptionError

    found.rebuild()
    if found.count and not found.save():
        raise OptionError(
            f"{found.path} cannot be written{': ' * bool(found.failure)}{found.failure}"
        )
    if not found.count:
        found.path.unlink(missing_ok=True)
    return bool(found.count)


def to_json(found: "PageIndex", journal: Path, path: Path, fits: bool) -> dict[str, Any]:
    """What there is to say of the index, in what JSON has."""
    exists = path.is_file()
    return {
        "journal": str(journal),
        "index": str(path) if exists else None,
        "fits": fits,
        "entries": found.count if fits else 0,
        "last_seq": found.last_seq if fits and found.last_seq >= 0 else None,
        "size": path.stat().st_size if exists else 0,
    }


def _count_references(measures: Any) -> dict[str, Any]:
    """How many pages snapshots give, and how many of them they name."""
    from journal.events.memory import PageKind

    pages = measures.pages
    named, whole = pages.given[PageKind.SAME], pages.given[PageKind.WHOLE]
    return {
        "pages": pages.count,
        "whole": whole,
        "named": named,
        "share": named / (named + whole) if named + whole else 0.0,
    }


def report(known: dict[str, Any]) -> None:
    """Print the result."""
    from journaltool.output.memory_format import format_size

    rows = [("journal", terminal.quote(known["journal"]))]
    if known["index"] is None:
        rows.append(("index", "none"))
    else:
        rows.append(("index", f"{terminal.quote(known['index'])}, {format_size(known['size'])}"))
        if not known["fits"]:
            rows.append(("", "it is not the journal's as it is: a run that goes on makes another"))
        else:
            upto = "" if known["last_seq"] is None else f", up to event {known['last_seq']}"
            rows.append(("entries", f"{known['entries']:,}{upto}"))
    if "pages" in known:
        share = "named, which would be whole without"
        rows.append(("pages", f"{known['whole']:,} given whole, {known['named']:,} {share}"))
    if "wrong" in known:
        wrong, missing = known["wrong"], known["missing"]
        told = "each entry leads to its page" if not wrong else f"{wrong:,} entries lead elsewhere"
        rows.append(("check", told + (f"; {missing:,} pages have none" if missing else "")))
    terminal.print_table(rows)
