"""The policy that knows all requests to come: a reference that no real system can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vorn.snapshots.entry import UNTRACKED, Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Planned, Setting
from vorn.snapshots.minqueue import MinQueue
from vorn.snapshots.paths import PrefixKey
from vorn.snapshots.policies.lineage import Lineage


@dataclass(frozen=True)
class Clairvoyant:
    """Evicts the snapshot whose loss adds the fewest tokens of replay over all requests to come; of equals, by LRU.

    A loss is counted for the requests that would restore it from today's residents, down to the next resident or to a
    snapshot that an earlier request is sure to have stored by then. Greedy: not proven optimal, and a bound only where
    the exhaustive search of the tests says so.
    """

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Foresight(setting.future())


class _Foresight(Evictor):
    def __init__(self, future: Sequence[Planned]) -> None:
        super().__init__()
        self._future = future
        self._now = 0  # requests served so far
        self._through: dict[int, list[int]] = {}  # requests by the chains of their matched part, in order
        for number, request in enumerate(future):
            if request.matched:
                for chain in request.path.chains[: request.path.segment(request.matched) + 1]:
                    self._through.setdefault(chain, []).append(number)
        self._stored = _stored_before(future)
        self._lineage = Lineage()
        self._queue: MinQueue[Snapshot] = MinQueue()

    def served(self) -> None:
        self._now += 1
        request = self._future[self._now - 1]
        for chain in request.path.chains:
            for entry in self._lineage.in_chain(chain):
                self._value(entry)

    def added(self, entry: Snapshot) -> None:
        adopted = self._lineage.add(entry)
        parent = self._lineage.parent(entry)
        for one in [entry, *adopted, *([parent] if parent else [])]:
            self._value(one)

    def touched(self, entry: Snapshot) -> None:
        self._value(entry)

    def removed(self, entry: Snapshot) -> None:
        parent = self._lineage.parent(entry)
        self._queue.drop(entry)
        for one in [*self._lineage.remove(entry), *([parent] if parent else [])]:
            self._value(one)

    def victim(self) -> Snapshot:
        found = self._queue.least()
        if found is None:
            raise LookupError("an evictor was asked for a victim of an empty pool")
        return found

    def _value(self, entry: Snapshot) -> None:
        base, lost = self._lineage.base(entry), 0
        children = self._lineage.children(entry)
        for number in self._through.get(entry.chain, ()):
            request = self._future[number]
            if number < self._now or request.matched < entry.depth or not _same(request.session, entry.session):
                continue
            instead = max(base, self._stored_by_then(number))
            if instead < entry.depth and not any(_serves(child, request) for child in children):
                lost += entry.depth - instead
        self._queue.put(entry, (lost, entry.last))

    def _stored_by_then(self, number: int) -> int:
        """Deepest snapshot for this request that a request between now and then stores anew; 0 for none."""
        return next((depth for depth, by in self._stored[number] if by >= self._now), 0)


def _same(left: int, right: int) -> bool:
    return UNTRACKED in (left, right) or left == right


def _serves(entry: Snapshot, request: Planned) -> bool:
    """Whether the request could restore this resident."""
    if entry.depth > request.matched or not _same(request.session, entry.session):
        return False
    return request.path.key(entry.depth) == entry.key


def _stored_before(future: Sequence[Planned]) -> list[list[tuple[int, int]]]:
    """For each request: (depth, the last earlier request that stores it), deepest first, later storers only."""
    last_storer: dict[PrefixKey, int] = {}
    depths: dict[int, dict[int, None]] = {}  # by chain
    found = []
    for number, request in enumerate(future):
        best: list[tuple[int, int]] = []
        chains = request.path.chains[: request.path.segment(request.matched) + 1] if request.matched else ()
        for chain in reversed(chains):
            for depth in sorted(depths.get(chain, ()), reverse=True):
                by = last_storer[PrefixKey(chain, depth)]
                if depth <= request.matched and (not best or by > best[-1][1]):
                    best.append((depth, by))
        found.append(best)
        for depth in request.depths:
            key = request.path.key(depth)
            last_storer[key] = number
            depths.setdefault(key.chain, {})[depth] = None
    return found
