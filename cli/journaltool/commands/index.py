"""``journaltool index``: show, check, rebuild or remove the page index of a journal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common
from journaltool.output import progress, terminal

if TYPE_CHECKING:
    from journal.operations.statistics import StatisticsResult
    from journal.pages.page_index import PageIndex

HELP = """Show, check, rebuild or remove the page index of a journal.

A run with --page-index writes the index to JOURNAL.pages at its end. The journal does not need the
index: if the index is missing or does not match the journal, the next resume rebuilds it. The
numbers of stored and referenced pages are read from the journal itself.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("index")}

\b
Examples:
  journaltool index work.journal
  journaltool index --rebuild work.journal
  journaltool index --check --json work.journal
"""


def index(
    journal: common.JournalArgument,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare each entry of the index with the bytes of its page."),
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Rebuild the index from the journal.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Remove the index.")] = False,
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Show a page index (the help text is HELP)."""
    if check + rebuild + drop > 1:
        raise typer.BadParameter(
            "--check, --rebuild and --drop exclude each other: use only one of them"
        )
    with error_report.reporting_errors(about=journal):
        error_report.raise_on_signals()
        from journal import Reader
        from journal.operations import statistics
        from journal.pages.index_store import get_index_path
        from journal.pages.page_index import PageIndex

        Reader(journal).close()  # Raises NotAJournal for any other file.
        path = get_index_path(journal)
        if drop:
            path.unlink(missing_ok=True)
        with PageIndex(journal, key=_open_key()) as page_index:
            with progress.show_phase("indexing" if rebuild else "reading the index", quiet):
                fits = _rebuild(page_index) if rebuild else page_index.open(size_max=0)
            values = to_json(page_index, journal, path, fits)
            if check and fits:
                with progress.show_phase("checking the index", quiet):
                    values |= page_index.check()._asdict()
            if not check:
                with progress.show_progress(quiet) as on_progress:
                    values |= _count_references(
                        statistics.collect_statistics(journal, progress=on_progress)
                    )
        if as_json:
            typer.echo(json.dumps(values, indent=2))
        elif not quiet:
            report(values)
    is_wrong = check and values["index"] and (not fits or values["wrong"])
    raise typer.Exit(exit_codes.ExitCode.DAMAGED if is_wrong else exit_codes.ExitCode.FINE)


def _open_key() -> Any:
    """Return the secret key of the user, stored in the directory that holds the module cache."""
    from journal._platform import require_linux
    from journal.fs import user_key

    require_linux("keeping a page index")
    cache = common.module_cache()
    return user_key.load_key(None if cache is None else cache.parent / user_key.NAME)


def _rebuild(page_index: "PageIndex") -> bool:
    """Rebuild and save the index, and return whether it has entries."""
    from journal import OptionError

    page_index.rebuild()
    if page_index.count and not page_index.save():
        raise OptionError(
            f"{page_index.path} cannot be written"
            f"{': ' * bool(page_index.failure)}{page_index.failure}"
        )
    if not page_index.count:
        page_index.path.unlink(missing_ok=True)
    return bool(page_index.count)


def to_json(page_index: "PageIndex", journal: Path, path: Path, fits: bool) -> dict[str, Any]:
    """Return the state of the index as JSON values."""
    exists = path.is_file()
    return {
        "journal": str(journal),
        "index": str(path) if exists else None,
        "fits": fits,
        "entries": page_index.count if fits else 0,
        "last_seq": page_index.last_seq if fits and page_index.last_seq >= 0 else None,
        "size": path.stat().st_size if exists else 0,
    }


def _count_references(result: "StatisticsResult") -> dict[str, Any]:
    """Count the pages that snapshots store and the pages that they reference."""
    from journal.events.memory import PageKind

    pages = result.pages
    named, whole = pages.kinds[PageKind.SAME], pages.kinds[PageKind.WHOLE]
    return {
        "pages": pages.count,
        "whole": whole,
        "named": named,
        "share": named / (named + whole) if named + whole else 0.0,
    }


def report(values: dict[str, Any]) -> None:
    """Print the result."""
    from journaltool.output.memory_format import format_size

    rows = [("journal", terminal.quote(values["journal"]))]
    if values["index"] is None:
        rows.append(("index", "none"))
    else:
        rows.append(("index", f"{terminal.quote(values['index'])}, {format_size(values['size'])}"))
        if not values["fits"]:
            rows.append(("", "it does not match the journal; the next resume rebuilds it"))
        else:
            upto = "" if values["last_seq"] is None else f", up to event {values['last_seq']}"
            rows.append(("entries", f"{values['entries']:,}{upto}"))
    if "pages" in values:
        share = "referenced instead of stored again"
        rows.append(("pages", f"{values['whole']:,} stored whole, {values['named']:,} {share}"))
    if "wrong" in values:
        wrong, missing = values["wrong"], values["missing"]
        result = "each entry matches its page"
        if wrong:
            result = f"{wrong:,} entries do not match their page"
        rows.append(("check", result + (f"; {missing:,} pages have no entry" if missing else "")))
    terminal.print_table(rows)
