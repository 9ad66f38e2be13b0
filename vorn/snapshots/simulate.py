"""The simulated engine: requests against one pool under one policy, with a cost law instead of a model. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from vorn.snapshots.cost import Cost
from vorn.snapshots.evictor import Planned, Rule, Setting
from vorn.snapshots.index import Capacity, Order, SnapshotIndex
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import KnownKV, Request


@dataclass(frozen=True, slots=True)
class Pool:
    """What one cell holds snapshots in."""

    rule: Rule
    capacity: Capacity
    order: Order
    snapshot_bytes: int  # of one snapshot: the state has one size, however deep


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What one request found. All counts are tokens, except evictions, fired and saturated."""

    prompt: int
    matched: int
    anchor: int
    replay: int  # matched - anchor
    recomputed: int  # prompt - anchor: what is read before the first token
    seconds: float  # by the cost law
    evictions: int  # all three since the last measured request: the pressure that this one has survived
    fired: int | None  # of those, in which the policy's protection changed the victim; None if it has none
    saturated: int | None  # of those, in which everything was protected


def planned(requests: Sequence[Request], placement: Placement) -> list[Planned]:
    """All requests as a clairvoyant policy knows them."""
    known, found = KnownKV(placement), []
    for request in requests:
        matched = known.match(request)
        depths = placement.depths(anchor=matched, matched=matched, prompt=request.prompt.tokens, total=request.total)
        found.append(Planned(request.full, matched, request.session, tuple(depth for depth, _ in depths)))
        known.store(request)
    return found


def start_index(pool: Pool, requests: Sequence[Request], placement: Placement, cost: Cost) -> SnapshotIndex:
    """The empty index of a cell."""
    setting = Setting(work=cost.seconds, future=partial(planned, requests, placement))
    return SnapshotIndex(pool.rule, pool.capacity, pool.order, setting)


def simulate(pool: Pool, requests: Sequence[Request], placement: Placement, cost: Cost) -> list[Resumed]:
    """What every request found, in order; those that are not measured too.

    Raises: BadInput for a request that claims to resume beyond what was stored.
    """
    index = start_index(pool, requests, placement, cost)
    known, found = KnownKV(placement), []
    since = (0, 0, 0)
    for request in requests:
        matched, prompt = known.match(request), request.prompt.tokens
        match = index.lookup(request.prompt, matched, request.session)
        index.evictor.served()
        evictor = index.evictor
        now = (index.evictions, evictor.fired, evictor.saturated)
        found.append(
            Resumed(
                prompt=prompt,
                matched=matched,
                anchor=match.anchor,
                replay=match.replay,
                recomputed=prompt - match.anchor,
                seconds=cost.seconds(match.anchor, prompt),
                evictions=now[0] - since[0],
                fired=now[1] - since[1] if evictor.protects else None,
                saturated=now[2] - since[2] if evictor.protects else None,
            )
        )
        if request.measured:
            since = now
        for depth, role in placement.depths(anchor=match.anchor, matched=matched, prompt=prompt, total=request.total):
            index.insert(request.full, depth, request.session, role, pool.snapshot_bytes)
        known.store(request)
    return found
