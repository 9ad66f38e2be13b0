"""A priority queue whose items change their keys: a heap that forgets stale entries when it meets them."""

from __future__ import annotations

from collections.abc import Collection
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class MinQueue(Generic[T]):
    """Items by key, the least first. Every operation takes O(log n) amortised.

    Keys of one queue must be comparable with each other; equal keys are taken in the order in which they were put.
    """

    __slots__ = ("_count", "_heap", "_items", "_live")

    def __init__(self) -> None:
        # The heap names its items by number: tuples of numbers are nothing to the cycle collector, while those that
        # hold an item are visited in every full collection, and a large pool has many.
        self._live: dict[T, tuple[Any, int]] = {}  # key and number
        self._items: dict[int, T] = {}  # by number
        self._heap: list[tuple[Any, int]] = []  # key and number; stale unless the number is that of an item
        self._count = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, item: T) -> bool:
        return item in self._live

    def key(self, item: T) -> Any:
        """The key under which the item stands."""
        return self._live[item][0]

    def put(self, item: T, key: Any) -> None:
        """Add the item, or change its key."""
        old = self._live.get(item)
        if old is not None:
            del self._items[old[1]]
        self._count += 1
        entry = key, self._count
        self._live[item] = entry
        self._items[self._count] = item
        heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = list(self._live.values())
            heapify(self._heap)

    def drop(self, item: T) -> None:
        """Remove the item. Raises KeyError if it is not there."""
        del self._items[self._live.pop(item)[1]]

    def least(self, exempt: Collection[T] = ()) -> T | None:
        """The item with the least key that is not `exempt`; None if there is none. O((1 + exempt) log n)."""
        aside = []
        found: T | None = None
        while self._heap:
            item = self._items.get(self._heap[0][1])
            if item is None:
                heappop(self._heap)
            elif item in exempt:
                aside.append(heappop(self._heap))
            else:
                found = item
                break
        for entry in aside:
            heappush(self._heap, entry)
        return found
