"""Items in the order of their last use, each with a worth, of which the least weighted sum of both is found fast.

A tournament tree over the order of use: every node knows the least and the greatest worth below it, and the clock
before which nothing below it was used. That bounds the sums below a node from below, whatever the weights are, so that
a search that follows the least bound meets few nodes.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar

_SMALLEST = 64  # leaves
_NOTHING = (float("inf"), float("-inf"))


class Aged(Protocol):
    """What can stand in the tree."""

    @property
    def last(self) -> int:
        """Clock of the last use; no two items have the same, and a later `put` means a later clock."""

    @property
    def place(self) -> int:
        """Breaks ties, the least first."""


T = TypeVar("T", bound=Aged)


class AgeTree(Generic[T]):
    """Items by `last`. A change takes O(log n) amortised; so does `least` unless many sums are nearly the same."""

    _leaves: int
    _used: int  # leaves at the front; the last of them holds an item
    _first: int  # the first leaf that holds one
    _items: list[T | None]
    _lasts: list[int]  # never falling over the used leaves; those of dropped items stand on
    _low: list[float]
    _high: list[float]
    _places: dict[T, int]

    def __init__(self) -> None:
        self._rebuild([])

    def __len__(self) -> int:
        return len(self._places)

    def worth(self, item: T) -> float:
        """What was given with the item."""
        return self._low[self._leaves + self._places[item]]

    def put(self, item: T, worth: float) -> None:
        """Add an item that was used just now, or move it there."""
        if item in self._places:
            self.drop(item)
        if self._used == self._leaves:
            self._rebuild([(one, self.worth(one)) for one in self._items if one is not None])
        place, self._used = self._used, self._used + 1
        self._items[place], self._lasts[place], self._places[item] = item, item.last, place
        self._set(place, worth, worth)

    def change(self, item: T, worth: float) -> None:
        """Give an item another worth; it keeps its age."""
        self._set(self._places[item], worth, worth)

    def drop(self, item: T) -> None:
        """Remove an item. Raises KeyError if it is not there."""
        place = self._places.pop(item)
        self._items[place] = None
        self._set(place, *_NOTHING)
        while self._used and self._items[self._used - 1] is None:
            self._used -= 1
        while self._first < self._used and self._items[self._first] is None:
            self._first += 1
        self._first = min(self._first, self._used)

    def least(self, share: float) -> T:
        """The item with the least age + share * worth, both scaled to 0 .. 1 over the items; of equal ones by `place`.

        A term in which all items are equal counts as 0. Raises: LookupError without items.
        """
        if not self._places:
            raise LookupError("an evictor was asked for a victim of an empty pool")
        lasts, low = self._lasts, self._low
        oldest, least = lasts[self._first], low[1]
        age, spread = lasts[self._used - 1] - oldest, self._high[1] - least
        by_age, by_worth = (1 / age if age else 0.0), (share / spread if spread else 0.0)
        open_nodes = [(0.0, 1, 0, self._leaves)]  # bound, node, first leaf below it, leaves below it
        found: tuple[float, int, T] | None = None
        while open_nodes and (found is None or open_nodes[0][0] <= found[0]):
            bound, node, start, width = heappop(open_nodes)
            item = self._items[start] if width == 1 else None
            if item is not None:
                if found is None or (bound, item.place) < found[:2]:
                    found = (bound, item.place, item)
                continue
            half = width // 2
            for child, first in ((2 * node, start), (2 * node + 1, start + half)):
                if low[child] != _NOTHING[0]:
                    # Rounded products and sums keep the order of their arguments, so that no leaf is below its node.
                    bound = (lasts[first] - oldest) * by_age + (low[child] - least) * by_worth
                    heappush(open_nodes, (bound, child, first, half))
        if found is None:
            raise LookupError("the tree lost its items")
        return found[2]

    def _set(self, place: int, low: float, high: float) -> None:
        """Write a leaf and what its ancestors say of it."""
        lows, highs, node = self._low, self._high, self._leaves + place
        lows[node], highs[node] = low, high
        node //= 2
        while node:
            left, right = 2 * node, 2 * node + 1
            low = lows[left] if lows[left] <= lows[right] else lows[right]
            high = highs[left] if highs[left] >= highs[right] else highs[right]
            if low == lows[node] and high == highs[node]:
                return
            lows[node], highs[node] = low, high
            node //= 2

    def _rebuild(self, items: list[tuple[T, float]]) -> None:
        """Start anew without the leaves of what has gone, and with room for as many as there are."""
        leaves = _SMALLEST
        while leaves < 2 * len(items):
            leaves *= 2
        spare = leaves - len(items)
        worths = [worth for _, worth in items]
        self._leaves, self._used, self._first = leaves, len(items), 0
        self._items = [item for item, _ in items] + [None] * spare
        self._lasts = [item.last for item, _ in items] + [0] * spare
        self._low = [_NOTHING[0]] * leaves + worths + [_NOTHING[0]] * spare
        self._high = [_NOTHING[1]] * leaves + worths + [_NOTHING[1]] * spare
        for node in range(leaves - 1, 0, -1):
            self._low[node] = min(self._low[2 * node], self._low[2 * node + 1])
            self._high[node] = max(self._high[2 * node], self._high[2 * node + 1])
        self._places = {item: place for place, (item, _) in enumerate(items)}
