"""A published value beside the recomputed one, and the checks of single rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from vorn.audit.exact import wilson_by_z
from vorn.audit.published import Row

TOLERANCE = 1e-9  # of rates and p-values
# Roundings of the normal quantile in use: of two, the intervals of 50 fixtures differ by 1e-9 or more.
WILSON_Z = (1.96, 1.959964, NormalDist().inv_cdf(0.975))
WILSON_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One claim and what came out of recomputing it."""

    where: str  # field path of the claim
    name: str  # of the row or the two rows
    what: str  # "hits", "rate", "Wilson interval", "McNemar p", ...
    basis: str  # what it was recomputed from: "observations", "counts", "table" or "p-values"
    published: str
    recomputed: str
    agrees: bool
    is_exact: bool  # agrees bit for bit


def close(claim: tuple[str, str], what: str, basis: str, published: float, recomputed: float) -> Check:
    """The check of a number, within `TOLERANCE`. A claim is its field path and name."""
    agrees = abs(published - recomputed) <= TOLERANCE
    return _check(claim, what, basis, (repr(published), repr(recomputed)), agrees, published == recomputed)


def same(claim: tuple[str, str], what: str, basis: str, published: object, recomputed: object) -> Check:
    """The check of a count, a table or a text."""
    agrees = published == recomputed
    return _check(claim, what, basis, (str(published), str(recomputed)), agrees, agrees)


def _check(
    claim: tuple[str, str], what: str, basis: str, texts: tuple[str, str], agrees: bool, is_exact: bool
) -> Check:
    """`texts`: what was published, and what was recomputed."""
    return Check(
        where=claim[0],
        name=claim[1],
        what=what,
        basis=basis,
        published=texts[0],
        recomputed=texts[1],
        agrees=agrees,
        is_exact=is_exact,
    )


def check_interval(claim: tuple[str, str], basis: str, ends: tuple[float, float], hits: int, n: int) -> Check:
    """The check of a 95 % Wilson interval, for the rounding of z that comes nearest."""
    intervals = [(wilson_by_z(hits, n, z), z) for z in WILSON_Z]
    offs = [max(abs(one.low - ends[0]), abs(one.high - ends[1])) for one, _ in intervals]
    off = min(offs)
    nearest, z = intervals[offs.index(off)]
    texts = f"{ends[0]!r} to {ends[1]!r}", f"{nearest.low!r} to {nearest.high!r} (z = {z:.7g})"
    return _check(claim, "Wilson interval", basis, texts, off <= WILSON_TOLERANCE, off == 0.0)


def check_row(row: Row) -> Iterator[Check]:
    """Size, hits, rate and interval of a row; from its counts where it has no observations."""
    claim = row.where, row.name
    basis, n, hits = "counts", row.n, row.hits
    if row.observations:
        basis, n = "observations", len(row.observations)
        hits = sum(seen.outcome == 1.0 for seen in row.observations)
        yield same(claim, "distinct fixtures", basis, n, len(row.outcomes))
        if row.n is not None:
            yield same(claim, "fixtures", basis, row.n, n)
        if row.hits is not None:
            yield same(claim, "hits", basis, row.hits, hits)
    if not n:
        return
    if hits is None and row.rate is not None:
        hits = round(row.rate * n)  # a rate of n fixtures is a whole number of hits
    if hits is not None and row.rate is not None:
        yield close(claim, "rate", basis, row.rate, hits / n)
    if hits is not None and row.interval is not None:
        yield check_interval(claim, basis, row.interval, hits, n)
