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

    def __init__(self) -> None:
        self._live: dict[T, tuple[Any, int]] = {}
        self._heap: list[tuple[Any, int, T]] = []
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
        self._count += 1
        self._live[item] = (key, self._count)
        heappush(self._heap, (key, self._count, item))
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [(key, count, item) for item, (key, count) in self._live.items()]
            heapify(self._heap)

    def drop(self, item: T) -> None:
        """Remove the item. Raises KeyError if it is not there."""
        del self._live[item]

    def least(self, exempt: Collection[T] = ()) -> T | None:
        """The item with the least key that is not `exempt`; None if there is none. O((1 + exempt) log n)."""
        aside = []
        found: T | None = None
        while self._heap:
            entry = self._heap[0]
            if self._live.get(entry[2], (None, -1))[1] != entry[1]:
                heappop(self._heap)
            elif entry[2] in exempt:
                aside.append(heappop(self._heap))
            else:
                found = entry[2]
                break
        for entry in aside:
            heappush(self._heap, entry)
        return found
