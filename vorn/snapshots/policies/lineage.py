"""Which resident is the nearest shallower one on the same sequence: what depth-aware policies need to know."""

from __future__ import annotations

from bisect import bisect_left, insort

from vorn.snapshots.entry import Snapshot
from vorn.snapshots.paths import ROOT


class Lineage:
    """Parents and children among the residents: a tree in which an ancestor's tokens begin its descendants'.

    A change costs the segments of the entry's path, plus the children that change their parent.
    """

    def __init__(self) -> None:
        self._in_chain: dict[int, list[tuple[int, int]]] = {}  # sorted (depth, born), by chain
        self._entries: dict[int, Snapshot] = {}
        self._below: dict[int, dict[int, int]] = {}  # chain -> continuing chain -> residents in it or beyond
        self._parent: dict[Snapshot, Snapshot | None] = {}
        self._children: dict[Snapshot | None, dict[Snapshot, None]] = {None: {}}

    def __contains__(self, entry: Snapshot) -> bool:
        return entry in self._parent

    def parent(self, entry: Snapshot) -> Snapshot | None:
        """The deepest resident that is a proper prefix; None for the beginning of the sequence."""
        return self._parent[entry]

    def children(self, entry: Snapshot | None) -> list[Snapshot]:
        """The residents whose parent this is, in the order in which they became so."""
        return list(self._children[entry])

    def in_chain(self, chain: int) -> list[Snapshot]:
        """The residents in the segment that ends this chain, shallow to deep."""
        return [self._entries[number] for _, number in self._in_chain.get(chain, ())]

    def base(self, entry: Snapshot) -> int:
        """Depth of the parent; 0 without one."""
        parent = self._parent[entry]
        return parent.depth if parent is not None else 0

    def add(self, entry: Snapshot) -> list[Snapshot]:
        """Take a resident in. Returns the residents whose parent it has become."""
        chains = entry.path.chains[: entry.path.segment(entry.depth) + 1]
        parent = self._above(entry, chains)
        adopted = self._first_below(entry, chains[-1])
        insort(self._in_chain.setdefault(chains[-1], []), (entry.depth, entry.born))
        self._entries[entry.born] = entry
        for outer, inner in zip((ROOT, *chains), chains, strict=False):
            count = self._below.setdefault(outer, {})
            count[inner] = count.get(inner, 0) + 1
        self._parent[entry] = parent
        self._children[parent][entry] = None
        self._children[entry] = {}
        for child in adopted:
            self._hang(child, entry)
        return adopted

    def remove(self, entry: Snapshot) -> list[Snapshot]:
        """Let a resident go. Returns the residents that have its parent now."""
        chains = entry.path.chains[: entry.path.segment(entry.depth) + 1]
        here = self._in_chain[chains[-1]]
        del here[bisect_left(here, (entry.depth, entry.born))]
        if not here:
            del self._in_chain[chains[-1]]
        for outer, inner in zip((ROOT, *chains), chains, strict=False):
            self._below[outer][inner] -= 1
            if not self._below[outer][inner]:
                del self._below[outer][inner]
                if not self._below[outer]:
                    del self._below[outer]
        parent = self._parent[entry]
        orphans = list(self._children[entry])
        for child in orphans:
            self._hang(child, parent)
        del self._children[parent][entry], self._children[entry], self._parent[entry], self._entries[entry.born]
        return orphans

    def _hang(self, child: Snapshot, parent: Snapshot | None) -> None:
        del self._children[self._parent[child]][child]
        self._children[parent][child] = None
        self._parent[child] = parent

    def _above(self, entry: Snapshot, chains: tuple[int, ...]) -> Snapshot | None:
        for chain in reversed(chains):
            here = self._in_chain.get(chain, ())
            place = bisect_left(here, (entry.depth, 0))
            if place:
                return self._entries[here[place - 1][1]]
        return None

    def _first_below(self, entry: Snapshot, chain: int) -> list[Snapshot]:
        """The shallowest residents beyond `entry`, one per branch."""
        here = self._in_chain.get(chain, ())
        place = bisect_left(here, (entry.depth + 1, 0))
        if place < len(here):
            return [self._entries[here[place][1]]]
        found, open_chains = [], list(self._below.get(chain, ()))
        while open_chains:
            chain = open_chains.pop()
            here = self._in_chain.get(chain, ())
            if here:
                found.append(self._entries[here[0][1]])
            else:
                open_chains += self._below.get(chain, ())
        return found
