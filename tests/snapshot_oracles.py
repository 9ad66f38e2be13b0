"""A second implementation of pools and policies: lists, scans and definitions, written from the sources' semantics.

Token sequences are tuples of tokens here, so that a prefix is a slice. Nothing is shared with vorn.snapshots.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Entry:
    prefix: tuple[Any, ...]
    session: int
    role: str
    born: int
    last: int
    hits: int = 0

    @property
    def depth(self) -> int:
        return len(self.prefix)


@dataclass
class Pool:
    """Atlas's Vec: entries in storage order."""

    capacity: int
    bump: str
    swap: bool
    choose: Callable[[Pool], Entry]
    entries: list[Entry] = field(default_factory=list)
    clock: int = 0
    live: int = 0
    since: int = 0  # evictions since the live session's lookup
    victims: list[tuple[Any, ...]] = field(default_factory=list)
    given_up: list[Entry] = field(default_factory=list)
    cap: int | None = None  # of path_cap
    one_tail: bool = False  # of tail_lease: a session gives up its older tail

    def insert(self, prefix: tuple[Any, ...], session: int, role: str = "grid") -> None:
        same = [entry for entry in self.entries if entry.prefix == prefix]
        if not same and len(self.entries) == self.capacity:
            self.evict()
        self.clock += 1
        if same:
            entry = same[0]
            entry.session, entry.role, entry.last = session, role, self.clock
            if entry in self.given_up:
                self.given_up.remove(entry)
        else:
            entry = Entry(prefix, session, role, self.clock, self.clock)
            self.entries.append(entry)
        if self.one_tail and role == "tail" and session:
            for other in sorted(self.entries, key=lambda one: one.last):
                tail = other.role in ("tail", "sibling") and other.session == session
                if tail and other is not entry and other not in self.given_up:
                    self.given_up.append(other)
        if self.cap is not None:
            self.enforce_cap(entry)

    def enforce_cap(self, entry: Entry) -> None:
        above = [one for one in self.above(entry) if one not in self.given_up]
        excess = len(above) + 1 - self.cap
        for one in above:
            if excess > 0 and len(self.next_below(one)) < 2:
                self.given_up.append(one)
                excess -= 1

    def above(self, entry: Entry) -> list[Entry]:
        """Proper prefixes, shallow to deep."""
        found = [one for one in self.entries if one.depth < entry.depth and entry.prefix[: one.depth] == one.prefix]
        return sorted(found, key=lambda one: one.depth)

    def next_below(self, entry: Entry) -> list[Entry]:
        return [one for one in self.entries if self.above(one) and self.above(one)[-1] is entry]

    def lookup(self, tokens: tuple[Any, ...], matched: int, session: int) -> int:
        if matched == 0:
            return 0
        if session:
            self.live, self.since = session, 0
        best, improving, usable = None, [], []
        for entry in self.entries:
            if entry.depth > matched or (session and entry.session and entry.session != session):
                continue
            if tokens[: entry.depth] != entry.prefix:
                continue
            usable.append(entry)
            if best is None or entry.depth > best.depth:
                best = entry
                improving.append(entry)
        rules = {
            "winner": [best] if best else [],
            "improving": improving,
            "path": sorted(usable, key=lambda one: one.depth),
            "none": [],
        }
        for entry in rules[self.bump]:
            self.clock += 1
            entry.last, entry.hits = self.clock, entry.hits + 1
        return best.depth if best else 0

    def evict(self) -> None:
        victim = self.choose(self)
        self.since += 1
        place = self.entries.index(victim)
        if self.swap:
            last = self.entries.pop()
            if last is not victim:
                self.entries[place] = last
        else:
            del self.entries[place]
        if victim in self.given_up:
            self.given_up.remove(victim)
        self.victims.append(victim.prefix)


def forecast(entry: Entry) -> int:
    return entry.last * (1 + entry.hits)


def by(key: Callable[[Entry], Any]) -> Callable[[Pool], Entry]:
    return lambda pool: min(pool.entries, key=key)  # min keeps the first of equals: storage order


def resumable(pool: Pool) -> set[int]:
    return {one.session for one in pool.entries if one.session and one.hits}


def tail_pin(k: int) -> Callable[[Pool], Entry]:
    def choose(pool: Pool) -> Entry:
        pinned: list[Entry] = []
        for session in resumable(pool):
            own = [one for one in pool.entries if one.session == session]
            pinned += sorted(own, key=lambda one: (-one.depth, one.born))[:k]
        free = [one for one in pool.entries if one not in pinned]
        return min(free or pool.entries, key=forecast)

    return choose


def two_tier(pool: Pool) -> Entry:
    first = [one for one in pool.entries if one.session not in resumable(pool)]
    return min(first or pool.entries, key=forecast)


def tail_protect(pool: Pool) -> Entry:
    own = [one for one in pool.entries if pool.live and one.session == pool.live]
    exempt = sorted(own, key=lambda one: (-one.depth, one.born))[:1]
    free = [one for one in pool.entries if one not in exempt]
    return min(free or pool.entries, key=forecast)


def session_order(pool: Pool, entries: list[Entry]) -> Entry:
    fresh = {one.session: max(two.last for two in pool.entries if two.session == one.session) for one in entries}
    return min(entries, key=lambda one: (fresh[one.session], one.last))


def tail_lease(ttl: int, sibling: bool) -> Callable[[Pool], Entry]:
    def choose(pool: Pool) -> Entry:
        roles = ("tail", "sibling") if sibling else ("tail",)
        leased = [
            one
            for one in pool.entries
            if pool.live and pool.since < ttl and one.session == pool.live and one.role in roles
            if one not in pool.given_up
        ]
        free = [one for one in pool.entries if one not in leased]
        return pool.given_up[0] if pool.given_up else session_order(pool, free or pool.entries)

    return choose


def marconi(alpha: float) -> Callable[[Pool], Entry]:
    def choose(pool: Pool) -> Entry:
        saved = {one: one.depth - (pool.above(one)[-1].depth if pool.above(one) else 0) for one in pool.entries}
        lasts = [one.last for one in pool.entries]

        def scaled(value: float, values: list[int]) -> float:
            return (value - min(values)) / (max(values) - min(values)) if max(values) > min(values) else 0.0

        def score(one: Entry) -> float:
            return round(scaled(one.last, lasts) + alpha * scaled(saved[one], list(saved.values())), 12)

        return min(pool.entries, key=score)

    return choose


def path_cap(pool: Pool) -> Entry:
    return pool.given_up[0] if pool.given_up else min(pool.entries, key=lambda one: one.last)


def coverage(pool: Pool) -> Entry:
    coldest = min(pool.entries, key=lambda one: one.last)
    path = [*pool.above(coldest), coldest]
    while len(pool.next_below(path[-1])) == 1:
        path += pool.next_below(path[-1])

    def gap(one: Entry) -> int:
        return pool.next_below(one)[0].depth - (pool.above(one)[-1].depth if pool.above(one) else 0)

    interior = [one for one in path if len(pool.next_below(one)) == 1]
    return min(interior, key=lambda one: (gap(one), one.depth)) if interior else coldest


def least_total_replay(requests: list[tuple[tuple[Any, ...], int, list[int]]], capacity: int) -> int:
    """The least sum of matched - anchor over all ways to choose victims, by exhaustion.

    `requests`: full sequence, matched tokens, depths stored afterwards (those not deeper than the anchor are skipped).
    All requests are untracked.
    """

    def go(number: int, stored: frozenset[tuple[Any, ...]]) -> int:
        if number == len(requests):
            return 0
        tokens, matched, depths = requests[number]
        anchor = max((len(one) for one in stored if len(one) <= matched and tokens[: len(one)] == one), default=0)
        states = {stored}
        for depth in depths:
            if depth <= anchor:
                continue
            grown = set()
            for state in states:
                prefix = tokens[:depth]
                if prefix in state or len(state) < capacity:
                    grown.add(state | {prefix})
                else:
                    grown |= {frozenset(left) | {prefix} for left in itertools.combinations(state, capacity - 1)}
            states = grown
        return matched - anchor + min(go(number + 1, state) for state in states)

    return go(0, frozenset())
