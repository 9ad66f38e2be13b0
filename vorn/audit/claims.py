"""Claims of released artifacts about two rows: tests, families and lists of fixtures, read from JSON objects.

An object is known by its keys. All raise BadInput with the field path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vorn.audit.published import Cells, Comparison, OneSided, PairTest
from vorn.audit.rows import HITS, SIZES
from vorn.audit.source import child, count, flag, interval, number, refuse, table, text


def read_test(item: Mapping[str, Any], where: str, scope: str) -> PairTest:
    """The published p-value of two rows, named by their labels or given by their counts."""
    key = "table" if "table" in item else "contingency_table"
    cells = Cells(*table(item[key], child(where, key))) if key in item else _side_by_side(item, where)
    sides = [item.get(side) for side in ("lhs", "rhs")]
    return PairTest(
        where=where,
        scope=scope,
        name=text(item, ("test", "name"), where),
        lhs=sides[0] if isinstance(sides[0], str) else "",
        rhs=sides[1] if isinstance(sides[1], str) else "",
        cells=cells,
        p_value=_probability(item, "p_value", where),
        discordant=count(item, ("discordant_pairs",), where),
        lhs_share=number(item, ("lhs_discordant_share",), where, 1.0),
        is_paired=flag(item, "paired", where),
        is_significant=flag(item, "significant_at_0_05", where),
        odds_ratio=number(item, ("odds_ratio",), where),
        difference=number(item, ("absolute_hit_rate_delta",), where, 1.0),
    )


def read_comparison(item: Mapping[str, Any], where: str) -> Comparison:
    """A paired test with its family, corrected p-value and verdict."""
    test, inside = item["paired_test"], child(where, "paired_test")
    pair = item.get("comparison")
    if not isinstance(test, dict) or "table" not in test:
        raise refuse(inside, test, "an object with table, p_value and holm_adjusted_p_within_family")
    if not isinstance(pair, dict):
        raise refuse(child(where, "comparison"), pair, "an object with lhs and rhs")
    return Comparison(
        where=where,
        family=text(item, ("family_id",), where),
        source=text(item, ("artifact_id",), where),
        lhs=text(pair, ("lhs",), child(where, "comparison")),
        rhs=text(pair, ("rhs",), child(where, "comparison")),
        cells=Cells(*table(test["table"], child(inside, "table"))),
        p_value=_probability(test, "p_value", inside),
        p_holm=_probability(test, "holm_adjusted_p_within_family", inside),
        discordant=count(test, ("discordant_pairs",), inside),
        label=text(item, ("classification",), where),
        lhs_rate=number(item, ("lhs_hit_rate",), where, 1.0),
        rhs_rate=number(item, ("rhs_hit_rate",), where, 1.0),
        lhs_interval=interval(item, ("lhs_wilson_ci_95",), where),
        rhs_interval=interval(item, ("rhs_wilson_ci_95",), where),
        difference=_signed(item, "delta_hit_rate", where),
    )


def read_one_sided(item: Mapping[str, Any], where: str, scope: str) -> OneSided:
    """Fixtures that only one of two rows hit."""
    names = {}
    for side in ("lhs", "rhs"):
        key = f"{side}_only_correct_fixture_ids"
        value = item.get(key)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise refuse(child(where, key), value, "a list of fixture ids")
        names[side] = frozenset(value)
    return OneSided(
        where=where,
        scope=scope,
        lhs=text(item, ("lhs",), where),
        rhs=text(item, ("rhs",), where),
        lhs_only=names["lhs"],
        rhs_only=names["rhs"],
    )


def _side_by_side(item: Mapping[str, Any], where: str) -> Cells | None:
    """Hits and misses of lhs and rhs where these are objects with counts; None where they are labels."""
    sides = [(item[key], child(where, key)) for key in ("lhs", "rhs") if isinstance(item.get(key), dict)]
    if not sides:
        return None
    found: list[int] = []
    for side, place in sides:
        n, hits = count(side, SIZES, place), count(side, HITS, place)
        if n is None or hits is None or hits > n:
            raise refuse(place, side, "an object with hits and fixtures, not more hits than fixtures")
        found += [hits, n - hits]
    if len(found) != 4:
        raise refuse(where, item, "an object in which lhs and rhs are both labels or both counts")
    return Cells(*found)


def _probability(item: Mapping[str, Any], key: str, where: str) -> float:
    value = number(item, (key,), where, 1.0)
    if value is None:
        raise refuse(child(where, key), item.get(key), "a number from 0 to 1")
    return value


def _signed(item: Mapping[str, Any], key: str, where: str) -> float | None:
    value = item.get(key)
    if value is not None and (type(value) not in (int, float) or not -1 <= value <= 1):
        raise refuse(child(where, key), value, "a number from -1 to 1")
    return None if value is None else float(value)
