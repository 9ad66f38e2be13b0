"""The tree of ages against a scan of a list."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest

from vorn.snapshots.agetree import AgeTree


@dataclass(eq=False)
class Item:
    last: int
    place: int


def scanned(worths: dict[Item, float], share: float) -> Item:
    """The definition: both terms scaled to 0 .. 1 over all items, the least sum, of equal ones the least place."""
    lasts, values = [one.last for one in worths], list(worths.values())

    def scaled(value: float, low: float, high: float, factor: float) -> float:
        return (value - low) * (factor / (high - low)) if high > low else 0.0

    return min(
        worths,
        key=lambda one: (
            scaled(one.last, min(lasts), max(lasts), 1) + scaled(worths[one], min(values), max(values), share),
            one.place,
        ),
    )


@pytest.mark.parametrize(("levels", "share"), [(1, 0.7), (3, 0.7), (1000, 5.0)])
def test_the_least_sum_is_that_of_a_scan_however_items_come_and_go(levels: int, share: float) -> None:
    """400 changes at sizes below and above the first 64 leaves, so that the tree is rebuilt."""
    random, tree, worths = Random(levels), AgeTree[Item](), dict[Item, float]()
    for clock in range(1, 401):
        kind = random.random() if worths else 0.0
        chosen = random.choice(list(worths)) if worths else None
        if chosen is None or kind < (0.5 if len(worths) < 90 else 0.2):
            item = Item(clock, random.randrange(10_000))
            worths[item] = float(random.randrange(levels))
            tree.put(item, worths[item])
        elif kind < 0.6:
            chosen.last = clock
            tree.put(chosen, worths[chosen])
        elif kind < 0.75:
            worths[chosen] = float(random.randrange(levels))
            tree.change(chosen, worths[chosen])
        else:
            tree.drop(chosen)
            del worths[chosen]
        assert len(tree) == len(worths)
        if worths:
            assert tree.least(share) is scanned(worths, share)
    for item in list(worths):
        tree.drop(item)
    with pytest.raises(LookupError, match="empty pool"):
        tree.least(share)


@pytest.mark.parametrize("places", [(1, 2), (2, 1)])
def test_of_equal_sums_the_first_stored_is_taken(places: tuple[int, int]) -> None:
    """Old and worth 1, or new and worth 0: at share 1 both sums are exactly 1."""
    tree, old, new = AgeTree[Item](), Item(10, places[0]), Item(30, places[1])
    gone = Item(20, 3)
    tree.put(old, 1.0)
    tree.put(gone, 100.0)
    tree.put(new, 0.0)
    assert tree.least(50.0) is old  # 0 + 50 * 0.01
    tree.drop(gone)
    assert tree.least(1.0) is min((old, new), key=lambda one: one.place)
    assert [tree.least(share) for share in (0.9, 1.1)] == [old, new]
