"""The checks of claims about two rows: exact tests, families under Holm's correction, lists of fixtures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vorn.audit.checks import Check, check_interval, close, same
from vorn.audit.exact import fisher_exact
from vorn.audit.published import ALPHA, Artifact, Cells, Comparison, OneSided, PairTest, Row
from vorn.stats import PairedTable, holm, mcnemar_exact


def check_pairs(artifact: Artifact) -> tuple[list[Check], list[str]]:
    """The checks of all claims about two rows, and the claims that nothing in the file allows to recompute."""
    checks: list[Check] = []
    unresolved: list[str] = []
    for test in artifact.tests:
        try:
            checks += _fisher(test) if test.is_fisher else _mcnemar(test, artifact.rows)
        except NotRecomputable as reason:
            unresolved.append(f"{test.where}: {reason}")
    for listed in artifact.one_sided:
        try:
            checks += _one_sided(listed, artifact.rows)
        except NotRecomputable as reason:
            unresolved.append(f"{listed.where}: {reason}")
    return [*checks, *_families(artifact)], unresolved


class NotRecomputable(Exception):
    """The file lacks what a claim is about."""


def named_rows(claim: PairTest | OneSided, rows: Sequence[Row]) -> tuple[Row, Row] | None:
    """The two rows, with observations, that a claim names; None if there are no such rows.

    Raises: NotRecomputable if a label means several rows that differ.
    """
    found = []
    for label in (claim.lhs, claim.rhs):
        inside = f"{claim.scope}." if claim.scope else ""
        named = [row for row in rows if row.label == label and row.observations and row.where.startswith(inside)]
        if not label or not named:
            return None
        if any(row.outcomes != named[0].outcomes for row in named):
            raise NotRecomputable(f"label {label!r} names {len(named)} rows that differ")
        found.append(named[0])
    return found[0], found[1]


def _mcnemar(test: PairTest, rows: Sequence[Row]) -> Iterator[Check]:
    if "mcnemar" not in test.name.lower():
        raise NotRecomputable(f"test {test.name!r} is not known; legal are McNemar's and Fisher's")
    claim = test.where, f"{test.lhs} against {test.rhs}"
    pair, cells, basis = named_rows(test, rows), test.cells, "table"
    if pair:
        lhs, rhs = (row.outcomes for row in pair)
        table = PairedTable.from_outcomes(lhs, rhs)
        own, basis = Cells(table.both, table.lhs_only, table.rhs_only, table.neither), "observations"
        yield same(claim, "same fixtures", basis, test.is_paired is not False, lhs.keys() == rhs.keys())
        if cells is not None:
            yield same(claim, "table", basis, tuple(cells), tuple(own))
        cells = own
    if cells is None:
        raise NotRecomputable("a p-value without a table, of rows that the file lacks")
    p_value, discordant = mcnemar_exact(cells.b, cells.c), cells.b + cells.c
    yield close(claim, "McNemar p", basis, test.p_value, p_value)
    yield from _common(test, claim, basis, p_value)
    if test.discordant is not None:
        yield same(claim, "discordant pairs", basis, test.discordant, discordant)
    if test.lhs_share is not None and discordant:
        yield close(claim, "share of discordant pairs", basis, test.lhs_share, cells.b / discordant)


def _fisher(test: PairTest) -> Iterator[Check]:
    if test.cells is None:
        raise NotRecomputable("Fisher's p without a table or counts")
    cells, claim, basis = test.cells, (test.where, test.lhs or "two rows"), "counts"
    p_value = fisher_exact(cells)
    yield close(claim, "Fisher p", basis, test.p_value, p_value)
    yield from _common(test, claim, basis, p_value)
    if test.odds_ratio is not None and min(cells):
        yield close(claim, "odds ratio", basis, test.odds_ratio, cells.a * cells.d / (cells.b * cells.c))
    if test.difference is not None and cells.a + cells.b and cells.c + cells.d:
        apart = abs(cells.a / (cells.a + cells.b) - cells.c / (cells.c + cells.d))
        yield close(claim, "difference", basis, test.difference, apart)


def _common(test: PairTest, claim: tuple[str, str], basis: str, p_value: float) -> Iterator[Check]:
    if test.is_significant is not None:
        yield same(claim, "significance", basis, test.is_significant, p_value <= ALPHA)


def _one_sided(listed: OneSided, rows: Sequence[Row]) -> Iterator[Check]:
    pair = named_rows(listed, rows)
    if pair is None:
        raise NotRecomputable("fixtures of rows that the file lacks")
    lhs, rhs = ({key for key, outcome in row.outcomes.items() if outcome == 1.0} for row in pair)
    claim = listed.where, f"{listed.lhs} against {listed.rhs}"
    yield same(claim, "fixtures of lhs alone", "observations", sorted(listed.lhs_only), sorted(lhs - rhs))
    yield same(claim, "fixtures of rhs alone", "observations", sorted(listed.rhs_only), sorted(rhs - lhs))


def _families(artifact: Artifact) -> Iterator[Check]:
    """Holm's correction over the distinct comparisons of each family; a claim's support may repeat some of them."""
    families: dict[str, dict[tuple[str, str, str], float]] = {}
    for one in artifact.comparisons:
        p_values = families.setdefault(one.family, {})
        p_values.setdefault((one.source, one.lhs, one.rhs), mcnemar_exact(one.cells.b, one.cells.c))
    corrected = {
        family: dict(zip(p_values, holm(list(p_values.values())), strict=True)) for family, p_values in families.items()
    }
    for one in artifact.comparisons:
        yield from _comparison(one, corrected[one.family][one.source, one.lhs, one.rhs], artifact.alpha)


def _comparison(one: Comparison, p_holm: float, alpha: float) -> Iterator[Check]:
    claim, cells = (one.where, f"{one.lhs} against {one.rhs}"), one.cells
    yield close(claim, "McNemar p", "table", one.p_value, mcnemar_exact(cells.b, cells.c))
    yield close(claim, "Holm p", "p-values", one.p_holm, p_holm)
    discordant, n = cells.b + cells.c, sum(cells)
    if one.discordant is not None:
        yield same(claim, "discordant pairs", "table", one.discordant, discordant)
    if one.label:
        strong = "publication_strong" if p_holm < alpha else "directional_only"
        yield same(claim, "label", "p-values", one.label, strong if discordant else "non_discriminative")
    if not n:
        return
    sides = ((cells.a + cells.b, one.lhs_rate, one.lhs_interval), (cells.a + cells.c, one.rhs_rate, one.rhs_interval))
    for hits, rate, interval in sides:
        if rate is not None:
            yield close(claim, "rate", "table", rate, hits / n)
        if interval is not None:
            yield check_interval(claim, "table", interval, hits, n)
    if one.difference is not None:
        yield close(claim, "difference", "table", one.difference, (cells.b - cells.c) / n)
