"""An audit on a terminal of 80 columns: what agrees in tables, what does not in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vorn.audit.build import Audit, FileAudit
from vorn.audit.compare import Comparison
from vorn.audit.ledgers import LedgerAudit
from vorn.audit.published import ALPHA
from vorn.audit.totals import Repeated

SHOWN = 12  # disagreements without --rows
FEW = 4  # items of other lists without --rows
LISTED = 5  # fixtures of a cell that are named


def print_audit(audit: Audit, console: Console, *, rows: bool) -> None:
    """Render the audit; `rows` shows every row and test, and lists in full."""
    few = None if rows else FEW
    if audit.files:
        names = audit.names
        _files(audit.files, names, console)
        for file in audit.files if rows else ():
            _rows(file, names, console)
        _claims(audit.files, console)
        _totals(audit, console)
        _grading(audit, console, few)
        _repeated(audit.repeated, names, console, few)
        unresolved = [f"{names[file.artifact.path]}: {one}" for file in audit.files for one in file.unresolved]
        _items("claims that nothing in their file allows to recompute", unresolved, console, few)
        parts = [f"{names[file.artifact.path]}: {one}" for file in audit.files for one in file.artifact.unchecked]
        _items("parts with numbers that are no run, test or family, and were not checked", parts, console, few)
    for ledger in audit.ledgers:
        _ledger(ledger, console)
    if audit.comparison:
        _comparison(audit.comparison, console)
    _items("not read", audit.problems, console, None, style="red")
    _items("disagreements", audit.disagreements, console, None if rows else SHOWN, style="red")
    _verdict(audit, console)


def _files(files: Sequence[FileAudit], names: Mapping[str, str], console: Console) -> None:
    table = _table("file", "rows", "with\nobs.", "claims", "differ", "graded by")
    for file in files:
        artifact = file.artifact
        if artifact.is_failure_list:
            graded = f"{artifact.n_failures} failed runs, no row"
        else:
            graded = ", ".join(f"{verdict} {n}" for verdict, n in sorted(file.verdicts.items()))
        cells = [
            names[artifact.path].removesuffix(".json"),
            len(artifact.rows),
            sum(bool(row.observations) for row in artifact.rows),
            len(file.checks),
            len(file.differing) or "",
            graded,
        ]
        table.add_row(*(_text(str(cell)) for cell in cells), style="red" if file.differing else "")
    console.print(table)


def _rows(file: FileAudit, names: Mapping[str, str], console: Console) -> None:
    """Every row and every claim about two rows of a file."""
    console.print(Text(f"\n{_clean(names[file.artifact.path])}", style="bold"))
    verdicts = {id(one.row): one.verdict for one in file.inferred}
    differing = Counter(check.where for check in file.differing)
    table = _table("row", "label", "n", "hits", "rate", "rule", "agrees")
    for row in file.artifact.rows:
        n = len(row.observations) or row.n
        hits = sum(seen.outcome == 1.0 for seen in row.observations) if row.observations else row.hits
        values = [row.where or "the file", row.name, n, hits, None if row.rate is None else f"{row.rate:g}"]
        values += [verdicts.get(id(row), ""), "no" if differing[row.where] else "yes"]
        table.add_row(*(_text("" if value is None else str(value)) for value in values))
    if file.artifact.rows:
        console.print(table)
    tests = [check for check in file.checks if check.what.endswith(" p")]
    table = _table("test", "rows", "p", "published", "recomputed")
    for check in tests:
        cells = (check.where, check.name, check.what.removesuffix(" p"), check.published, check.recomputed)
        table.add_row(*(_text(cell) for cell in cells), style="" if check.agrees else "red")
    if tests:
        console.print(table)


def _claims(files: Sequence[FileAudit], console: Console) -> None:
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for check in (check for file in files for check in file.checks):
        tally = kinds.setdefault((check.what, check.basis), Counter())
        tally["agree"] += check.agrees
        tally["exact"] += check.is_exact
        tally["differ"] += not check.agrees
    if not kinds:
        return
    console.print(Text("\nClaims, recomputed", style="bold"))
    table = _table("claim", "from", "agree", "bit for bit", "differ")
    for (what, basis), tally in sorted(kinds.items()):
        table.add_row(what, basis, str(tally["agree"]), str(tally["exact"]), str(tally["differ"] or ""))
    console.print(table)


def _totals(audit: Audit, console: Console) -> None:
    console.print(Text("\nTotals under the paper's counting contract", style="bold"))
    table = _table("", "rows", "with\nobservations", "observations", "USD", "hours")
    for name, one in (("every row", audit.totals), ("every run once", audit.totals_once)):
        counts = (one.rows, one.rows_with_observations, one.observations)
        table.add_row(name, *(f"{n:,}" for n in counts), f"{one.cost_usd:.2f}", f"{one.duration_h:.2f}")
    console.print(table)


def _repeated(repeated: Sequence[Repeated], names: Mapping[str, str], console: Console, limit: int | None) -> None:
    for is_same_run, label in ((True, "one run in several places"), (False, "separate runs with the same completions")):
        groups = [group.places for group in repeated if group.is_same_run == is_same_run]
        texts = ["; ".join(f"{names[one.path]} {one.row.where or 'the file'}" for one in group) for group in groups]
        _items(label, texts, console, limit)


def _grading(audit: Audit, console: Console, limit: int | None) -> None:
    tally = sum((file.verdicts for file in audit.files), Counter[str]())
    if not tally:
        return
    said = ", ".join(f"{n} {verdict}" for verdict, n in sorted(tally.items()))
    console.print(Text("\nRows by the rule that gives their outcomes, vorn_mat_v1 or vorn_mat_v2", style="bold"))
    console.print(said, highlight=False)
    names = audit.names
    torn = [(file, test) for file in audit.files for test in file.by_rule if test.is_torn]
    lines = [  # those that only the first, stricter rule makes significant come first
        f"{names[file.artifact.path]}: {test.where} ({test.name}): p = {test.p_values[0]:.2g} under v1 and "
        f"{test.p_values[1]:.2g} under v2, on {test.n} fixtures"
        for file, test in sorted(torn, key=lambda one: one[1].p_values[0] > ALPHA)
    ]
    total = sum(len(file.by_rule) for file in audit.files)
    _items(f"of {total} paired tests, significant at 5 % under one rule alone", lines, console, limit)


def _ledger(ledger: LedgerAudit, console: Console) -> None:
    seen = ledger.contents.observations
    cells, fixtures = {one.cell_id for one in seen}, {(one.evaluation_id, one.fixture_id) for one in seen}
    console.print(Text(f"\n{_clean(ledger.path)}", style="bold"))
    console.print(
        f"{len(seen)} observations of {len(cells)} cells on {len(fixtures)} fixtures, "
        f"{len(ledger.contents.manifests)} segments; {ledger.n_regraded} outcomes graded again, "
        f"{len(ledger.findings)} findings",
        highlight=False,
    )
    _items("notes", ledger.notes, console, None)


def _comparison(comparison: Comparison, console: Console) -> None:
    console.print(Text("\nThe two runs, cell by cell", style="bold"))
    table = _table("cell", "n", "hits", "lost", "gained", "texts\nchanged", "p direction\n(Holm)", "p noise\n(Holm)")
    for cell in comparison.cells:
        noise = "" if cell.p_noise_holm is None else f"{cell.p_noise_holm:.2g}"
        values = [cell.cell, cell.n, f"{cell.first_hits} -> {cell.second_hits}", len(cell.lost), len(cell.gained)]
        values += [cell.n_completions, f"{cell.p_direction_holm:.2g}", noise]
        table.add_row(*(_text(str(value)) for value in values), style="red" if cell in comparison.moved else "")
    console.print(table)
    if comparison.noise_n:
        flipped, n = comparison.noise_flips, comparison.noise_n
        said = f"noise floor: {flipped} of {n} fixtures ({flipped / n:.1%}) flipped between a cell and its repetition"
        console.print(said, highlight=False)
    else:
        console.print("neither run repeats a cell (A/A): the flips have no noise floor to be compared with")
    named = [
        f"{cell.cell}: lost {_names(cell.lost)}; gained {_names(cell.gained)}"
        for cell in comparison.cells
        if cell.lost or cell.gained
    ]
    _items("flipped fixtures", named, console, None)
    for name, only in (("first", comparison.only_first), ("second", comparison.only_second)):
        _items(f"cells of the {name} run alone", only, console, None)


def _names(fixtures: Sequence[str]) -> str:
    more = f" and {len(fixtures) - LISTED} more" if len(fixtures) > LISTED else ""
    return ", ".join(fixtures[:LISTED]) + more if fixtures else "none"


def _verdict(audit: Audit, console: Console) -> None:
    n = sum(len(file.checks) for file in audit.files)
    said = [f"{n} claims recomputed"] if audit.files else []
    said += [f"{len(audit.disagreements)} disagreements", f"{len(audit.problems)} not read"]
    bad = audit.disagreements or audit.problems
    console.print(Text("\n" + ", ".join(said), style="bold red" if bad else "bold green"))


def _items(label: str, items: Sequence[str], console: Console, limit: int | None, style: str = "") -> None:
    if not items:
        return
    console.print(f"\n{label} ({len(items)}):", highlight=False)
    shown = items[:limit] if limit is not None else items
    grid = Table.grid(padding=(0, 1))
    for item in shown:
        grid.add_row(" -", Text(_clean(item), style=style, overflow="fold"))
    console.print(grid)
    if len(shown) < len(items):
        console.print(f"   ... and {len(items) - len(shown)} more; --rows shows all", highlight=False)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for title in others:
        is_text = title in ("label", "rows", "rule", "from", "graded by", "published", "recomputed", "p")
        table.add_column(title, justify="left" if is_text else "right", overflow="fold")
    return table


def _text(value: str) -> Text:
    return Text(_clean(value))


def _clean(text: str) -> str:
    """What a file or a file name says, without what a terminal would obey or could not write."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
