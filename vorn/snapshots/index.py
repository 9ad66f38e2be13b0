"""The pool of snapshots: insertion with de-duplication, lookup of the deepest usable one, eviction when it is full.

Semantics: Atlas pull request 207, commit 2d9a5cbf, `SsmSnapshotIndex`, with one departure: a prefix that is resident is
recognised before room is made, while Atlas takes a free slot first and may evict for an insertion that needs none.
The scan of all entries in storage order is replaced by structures that give the same answers in O(log n).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vorn.records import BadInput
from vorn.snapshots.entry import UNTRACKED, Role, Snapshot
from vorn.snapshots.evictor import Evictor, Rule, Setting
from vorn.snapshots.paths import Path, PrefixKey

Order = Literal["swap", "stable"]
ORDERS = ("swap", "stable")


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much the pool holds; None for no limit of that kind."""

    slots: int | None = None
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("slots", self.slots), ("bytes", self.size_bytes)):
            if value is not None and value < 1:
                raise BadInput(
                    f"pool.{name}={value}: legal is at least 1; leave the cell out, or give null for no limit"
                )


class Match(NamedTuple):
    """What a lookup found."""

    snapshot: Snapshot | None
    anchor: int  # tokens of the state that is restored; 0 for none
    replay: int  # tokens between the anchor and the match, whose KV exists but whose state must be computed again


class Inserted(NamedTuple):
    """What an insertion did."""

    snapshot: Snapshot
    replaced_id: int | None  # state that the new one overwrites
    evicted: Sequence[Snapshot]


class SnapshotIndex:
    """Snapshots by prefix, under one policy."""

    def __init__(self, rule: Rule, capacity: Capacity, order: Order, setting: Setting) -> None:
        """`order`: `swap` fills a hole with the last stored entry, as the source does; `stable` keeps the order."""
        if order not in ORDERS:
            raise BadInput(f"pool.order={order!r}: legal values are {', '.join(ORDERS)}")
        self.capacity = capacity
        self.evictor: Evictor = rule.start(setting)
        self.clock = 0
        self.evictions = 0
        self.used_bytes = 0
        self._bump = rule.bump
        self._swaps = order == "swap"
        # Keys are bare tuples: those of numbers alone are nothing to Python's cycle collector, named ones are.
        self._by_key: dict[tuple[int, int], Snapshot] = {}
        self._depths: dict[int, list[int]] = {}  # sorted depths of the residents, by chain
        self._store: list[Snapshot] = []  # in storage order, if removal swaps
        self._inserted = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: PrefixKey) -> bool:
        return key in self._by_key

    def entries(self) -> list[Snapshot]:
        """The residents in storage order."""
        return sorted(self._by_key.values(), key=lambda entry: entry.place)

    def insert(
        self, path: Path, depth: int, session: int = UNTRACKED, role: Role = "grid", size_bytes: int = 1
    ) -> Inserted:
        """Store the state after the first `depth` tokens of `path`.

        A resident prefix is overwritten: its session, role and state are the new ones, its hits are kept.
        Raises: BadInput for a depth outside the sequence, or a snapshot that the whole pool cannot hold.
        """
        key = path.key(depth)
        if self.capacity.size_bytes is not None and size_bytes > self.capacity.size_bytes:
            raise BadInput(
                f"a snapshot takes {size_bytes} bytes and pool.bytes={self.capacity.size_bytes}: legal is a pool that "
                "holds at least one; raise pool.bytes"
            )
        resident = self._by_key.get(key)
        if resident is not None:
            return self._overwrite(resident, path, session, role, size_bytes)
        evicted = self._make_room(size_bytes, incoming=1)
        self.clock += 1
        self._inserted += 1
        entry = Snapshot(
            snapshot_id=self._inserted, path=path, depth=depth, session=session, role=role, size_bytes=size_bytes,
            clock=self.clock,
        )  # fmt: skip
        entry.place = len(self._store) if self._swaps else self._inserted
        if self._swaps:
            self._store.append(entry)
        self._by_key[key.chain, depth] = entry
        insort(self._depths.setdefault(key.chain, []), depth)
        self.used_bytes += size_bytes
        self.evictor.added(entry)
        return Inserted(entry, None, evicted)

    def _overwrite(self, entry: Snapshot, path: Path, session: int, role: Role, size_bytes: int) -> Inserted:
        replaced = entry.snapshot_id
        self.evictor.removed(entry)
        self.clock += 1
        self._inserted += 1
        self.used_bytes += size_bytes - entry.size_bytes
        entry.snapshot_id, entry.path, entry.session = self._inserted, path, session
        entry.role, entry.size_bytes, entry.last = role, size_bytes, self.clock
        self.evictor.added(entry)
        return Inserted(entry, replaced, self._make_room(0, incoming=0))

    def lookup(self, path: Path, matched: int, session: int = UNTRACKED) -> Match:
        """The deepest usable snapshot within the first `matched` tokens of `path`, whose KV is known.

        Entries of another session are not usable; untracked ones, and those for an untracked request, are. What is
        counted as a use: `winner` the deepest alone; `improving` every entry that is deeper than all usable ones
        stored before it, in storage order, as in the source's scan; `path` every usable entry, shallow to deep;
        `none` nothing.
        Raises: BadInput if more is matched than the sequence has.
        """
        if not 0 <= matched <= path.tokens:
            raise BadInput(
                f"matched={matched} of a sequence of {path.tokens} tokens: legal is 0 to {path.tokens}; a request "
                "cannot resume beyond its own prompt"
            )
        if matched == 0:
            return Match(None, 0, 0)
        if session != UNTRACKED:
            self.evictor.looked_up(session)
        if self._bump in ("winner", "none"):
            winner = self._deepest(path, matched, session)
            counted = [winner] if winner is not None and self._bump == "winner" else []
        else:
            usable = self._usable(path, matched, session)
            winner = usable[-1] if usable else None
            counted = usable if self._bump == "path" else _improving(usable)
        for entry in counted:
            self.clock += 1
            entry.last = self.clock
            entry.hits += 1
            self.evictor.touched(entry)
        anchor = winner.depth if winner is not None else 0
        return Match(winner, anchor, matched - anchor)

    def peek(self, path: Path, matched: int, session: int = UNTRACKED) -> Snapshot | None:
        """What a lookup would restore, without counting a use."""
        return self._deepest(path, matched, session) if matched else None

    def _deepest(self, path: Path, matched: int, session: int) -> Snapshot | None:
        for segment in range(path.segment(matched), -1, -1):
            chain = path.chains[segment]
            depths = self._depths.get(chain)
            if depths:
                for place in range(bisect_right(depths, matched) - 1, -1, -1):
                    entry = self._by_key[chain, depths[place]]
                    if _is_usable(entry, session):
                        return entry
        return None

    def _usable(self, path: Path, matched: int, session: int) -> list[Snapshot]:
        """All usable entries, shallow to deep."""
        found = []
        for chain in path.chains[: path.segment(matched) + 1]:
            for depth in self._depths.get(chain, ()):
                entry = self._by_key[chain, depth]
                if depth <= matched and _is_usable(entry, session):
                    found.append(entry)
        return found

    def evict(self) -> Snapshot:
        """Remove the policy's victim and return it. Raises BadInput if nothing is resident."""
        if not self._by_key:
            raise BadInput("the pool holds 0 snapshots: there is nothing to evict; insert one first")
        entry = self.evictor.victim()
        self.evictions += 1
        del self._by_key[entry.chain, entry.depth]
        depths = self._depths[entry.chain]
        del depths[bisect_right(depths, entry.depth) - 1]
        if not depths:
            del self._depths[entry.chain]
        self.used_bytes -= entry.size_bytes
        self.evictor.removed(entry)
        if self._swaps:
            last = self._store.pop()
            if last is not entry:
                self._store[entry.place] = last
                last.place = entry.place
                self.evictor.moved(last)
        return entry

    def _make_room(self, size_bytes: int, incoming: int) -> list[Snapshot]:
        slots, limit = self.capacity.slots, self.capacity.size_bytes
        evicted = []
        while (slots is not None and len(self) + incoming > slots) or (
            limit is not None and self.used_bytes + size_bytes > limit
        ):
            evicted.append(self.evict())
        return evicted


def _is_usable(entry: Snapshot, session: int) -> bool:
    return session == UNTRACKED or entry.session in (UNTRACKED, session)


def _improving(usable: Sequence[Snapshot]) -> list[Snapshot]:
    """Those that are deeper than all stored before them, in storage order."""
    found: list[Snapshot] = []
    for entry in sorted(usable, key=lambda entry: entry.place):
        if not found or entry.depth > found[-1].depth:
            found.append(entry)
    return found
