"""The pool against the sources' own scenarios, worked out by hand from the published semantics."""

from __future__ import annotations

import pytest

from vorn.records import BadInput
from vorn.snapshots.entry import Role
from vorn.snapshots.evictor import Bump, Rule, Setting
from vorn.snapshots.index import Capacity, Order, SnapshotIndex
from vorn.snapshots.paths import Path
from vorn.snapshots.policies.coverage import Coverage
from vorn.snapshots.policies.fifo import Fifo
from vorn.snapshots.policies.forecast import Forecast
from vorn.snapshots.policies.lru import Lru
from vorn.snapshots.policies.marconi import Marconi
from vorn.snapshots.policies.path_cap import PathCap
from vorn.snapshots.policies.session_lru import SessionLru
from vorn.snapshots.policies.tail_lease import TailLease
from vorn.snapshots.policies.tail_pin import TailPin
from vorn.snapshots.policies.two_tier import TwoTier

STREAM = Path.of(("stream", 10_000))
ORDERS: tuple[Order, ...] = ("swap", "stable")
both_orders = pytest.mark.parametrize("order", ORDERS)


def new_index(
    rule: Rule | None = None, slots: int | None = None, order: Order = "swap", size_bytes: int | None = None
) -> SnapshotIndex:
    setting = Setting(work=lambda start, end: end - start, future=tuple)
    return SnapshotIndex(rule or Forecast("improving"), Capacity(slots, size_bytes), order, setting)


def fields(index: SnapshotIndex) -> dict[int, tuple[int, int, int]]:
    """(last, hits, forecast score) by depth."""
    return {one.depth: (one.last, one.hits, one.last * (1 + one.hits)) for one in index.entries()}


def one_shot(index: SnapshotIndex, depth: int, session: int, role: Role = "grid") -> list[int]:
    """Depths that storing a state of a request of its own evicts."""
    path = Path.of((f"shot of {session}", depth))
    return [one.depth for one in index.insert(path, depth, session, role).evicted]


@both_orders
@pytest.mark.parametrize(
    ("bump", "depths", "want"),
    [
        ("improving", (16, 32, 48), {16: (4, 1, 8), 32: (5, 1, 10), 48: (6, 1, 12)}),
        ("winner", (16, 32, 48), {16: (1, 0, 1), 32: (2, 0, 2), 48: (4, 1, 8)}),
        ("improving", (48, 16, 32), {48: (4, 1, 8), 16: (2, 0, 2), 32: (3, 0, 3)}),  # storage order decides
        ("path", (48, 16, 32), {16: (4, 1, 8), 32: (5, 1, 10), 48: (6, 1, 12)}),
        ("none", (16, 32, 48), {16: (1, 0, 1), 32: (2, 0, 2), 48: (3, 0, 3)}),
    ],
)
def test_what_a_lookup_counts(
    order: Order, bump: Bump, depths: tuple[int, ...], want: dict[int, tuple[int, int, int]]
) -> None:
    index = new_index(Forecast(bump), order=order)
    for depth in depths:
        index.insert(STREAM, depth, 100)
    assert index.lookup(STREAM, 48, 100)[1:] == (48, 0)
    assert fields(index) == want


@both_orders
def test_a_lookup_finds_the_deepest_usable_state(order: Order) -> None:
    index = new_index(order=order)
    index.insert(STREAM, 16, 100)
    index.insert(STREAM, 32, 100)
    assert [index.lookup(STREAM, matched, 100)[1:] for matched in (48, 20, 16)] == [(32, 16), (16, 4), (16, 0)]
    assert index.lookup(STREAM, 15, 100) == (None, 0, 15)  # known KV, no state
    assert index.lookup(STREAM, 48, 200).anchor == 0
    assert index.lookup(STREAM, 48, 0).anchor == 32
    hits = fields(index)[16][1]
    again = index.insert(STREAM, 16, 100)
    assert (again.replaced_id, again.evicted, len(index), fields(index)[16][1]) == (1, [], 2, hits)
    assert again.snapshot.snapshot_id == 3


@both_orders
def test_the_tail_pin_of_the_source_protects_the_deepest(order: Order) -> None:
    index = new_index(TailPin("improving", 8), order=order)
    for depth in range(16, 161, 16):
        index.insert(STREAM, depth, 100)
    assert index.lookup(STREAM, 160, 100).anchor == 160
    assert [index.evict().depth for _ in range(2)] == [16, 32]
    assert (len(index), index.evictor.saturated) == (8, 0)
    assert [index.evict().depth for _ in range(2)] == [48, 64]  # all are pinned: forecast among all
    assert index.evictor.saturated == 2


@both_orders
def test_without_pins_the_oldest_goes_although_it_is_the_deepest(order: Order) -> None:
    index = new_index(order=order)
    index.insert(STREAM, 128, 100)
    index.insert(STREAM, 16, 100)
    assert index.evict().depth == 128


@both_orders
@pytest.mark.parametrize(
    ("rule", "want"),
    [
        (Forecast("improving"), [64, 16, 80, 96]),  # a tie of 6 and 6 goes to the earliest stored
        (Lru("improving"), [16, 32, 64, 80]),
        (TailPin("improving", 2), [64, 80, 96, 112]),
        (TwoTier("improving"), [64, 80, 96, 112]),
    ],
)
def test_a_resumed_conversation_under_one_shots(order: Order, rule: Rule, want: list[int]) -> None:
    index = new_index(rule, order=order)
    index.insert(STREAM, 16, 1)
    index.insert(STREAM, 32, 1)
    index.lookup(STREAM, 32, 1)
    for number, depth in enumerate((64, 80, 96, 112, 128)):
        one_shot(index, depth, 2 + number)
    assert [index.evict().depth for _ in range(4)] == want


@both_orders
@pytest.mark.parametrize(
    ("rule", "want"),
    [
        (Forecast("improving"), [0, 0, 100, 200, 300, 400, 500]),  # the anchor freezes: a fossil
        (Forecast("winner"), [0, 0, 0, 0, 0, 100, 0]),
        (Lru("winner"), [0] * 7),
        (Lru("improving"), [0] * 7),
        (TailPin("improving", 2), [0] * 7),
    ],
)
def test_fossils(order: Order, rule: Rule, want: list[int]) -> None:
    index, replays = new_index(rule, 4, order), []
    for turn in range(8):
        if turn:
            replays.append(index.lookup(STREAM, 100 * turn, 1).replay)
        index.insert(STREAM, 100 * (turn + 1), 1, "tail")
        index.insert(STREAM, 100 * (turn + 1) + 7, 1, "leaf")
    assert replays == want


def strand(rule: Rule, order: Order, leaves: bool) -> int:
    """Replay of a conversation of three turns after five one-shots in four slots."""
    index = new_index(rule, 4, order)
    for turn, depth in enumerate((100, 200, 300)):
        if turn:
            index.lookup(STREAM, depth - 100, 1)
        index.insert(STREAM, depth, 1, "tail")
        if leaves:
            index.insert(STREAM, depth + 7, 1, "leaf")
    for session in range(2, 7):
        one_shot(index, 60, session)
    return index.lookup(STREAM, 300, 1).replay


@both_orders
@pytest.mark.parametrize(
    ("rule", "want"),
    [
        (Fifo("none"), 300),
        (Lru("winner"), 300),
        (SessionLru("winner"), 300),
        (Forecast("improving"), 100),
        (TailPin("improving", 1), 0),
        (TailPin("improving", 2), 0),
        (TwoTier("improving"), 0),
        (TailLease("winner", 64, sibling=True), 0),
        (Marconi("winner", 2.0), 0),
    ],
)
def test_the_strand(order: Order, rule: Rule, want: int) -> None:
    assert strand(rule, order, leaves=False) == want


@both_orders
@pytest.mark.parametrize(("k", "want"), [(1, 100), (2, 0)])
def test_a_pinned_finish_leaf_overshoots_the_match(order: Order, k: int, want: int) -> None:
    assert strand(Forecast("improving"), order, leaves=True) == 100
    assert strand(TailPin("improving", k), order, leaves=True) == want


@both_orders
def test_a_lease_lapses_after_so_many_evictions(order: Order) -> None:
    """The leased tail outlives two evictions of a pool of two; at the third, ttl=2 lets it go and ttl=3 does not."""
    survived = {}
    for ttl in (2, 3):
        index = new_index(TailLease("winner", ttl, sibling=False), 2, order)
        index.insert(STREAM, 100, 1, "tail")
        index.lookup(STREAM, 100, 1)
        gone = [depth for session in range(2, 6) for depth in one_shot(index, 50 + session, session)]
        survived[ttl] = gone
    assert survived == {2: [52, 53, 100], 3: [52, 53, 54]}


@both_orders
def test_coverage_thins_a_cold_path_evenly(order: Order) -> None:
    """Six states 100 apart: every other one goes, from the shallow end, before a neighbour of a hole."""
    index = new_index(Coverage("winner"), 6, order)
    for depth in range(100, 601, 100):
        index.insert(STREAM, depth, 1)
    gone = [depth for session in range(2, 6) for depth in one_shot(index, 50, session)]
    assert gone == [100, 300, 500, 200]
    assert sorted(one.depth for one in index.entries() if one.session == 1) == [400, 600]


@both_orders
def test_a_path_cap_keeps_forks_and_the_tail(order: Order) -> None:
    """Cap 2: of 10-20-30 the shallowest is given up; with two branches from 10, it is a fork and stays."""
    for branches, victims in ((1, [10]), (2, [25])):
        index = new_index(PathCap("winner", 2), None, order)
        trunk = Path.of(("trunk", 20))
        index.insert(trunk, 10)
        for branch in range(branches):
            path = trunk.extended(f"branch{branch}", 40)
            index.insert(path, 25 + branch)
        index.insert(trunk.extended("branch0", 40), 45)
        assert [index.evict().depth for _ in victims] == victims


def test_bytes_limit_the_pool_too() -> None:
    index = new_index(Lru("winner"), size_bytes=100)
    for depth in (10, 20, 30):
        index.insert(STREAM, depth, size_bytes=30)
    assert [one.depth for one in index.insert(STREAM, 40, size_bytes=50).evicted] == [10, 20]
    assert index.used_bytes == 80
    with pytest.raises(BadInput, match=r"a snapshot takes 101 bytes and pool.bytes=100"):
        index.insert(STREAM, 50, size_bytes=101)


def test_bad_input_is_refused_with_what_is_legal() -> None:
    index = new_index()
    with pytest.raises(BadInput, match=r"pool.slots=0: legal is at least 1"):
        Capacity(0)
    with pytest.raises(BadInput, match=r"depth=10001 of a sequence of 10000 tokens"):
        index.insert(STREAM, 10_001)
    with pytest.raises(BadInput, match=r"depth=0 of a sequence"):
        index.insert(STREAM, 0)
    with pytest.raises(BadInput, match=r"matched=10001 of a sequence of 10000 tokens.*cannot resume beyond"):
        index.lookup(STREAM, 10_001)
    with pytest.raises(BadInput, match="holds 0 snapshots"):
        index.evict()
    with pytest.raises(BadInput, match=r"pool.order='random': legal values are swap, stable"):
        new_index(order="random")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="k=0 of tail_pin"):
        TailPin("improving", 0)
    with pytest.raises(BadInput, match=r"alpha=-1 of marconi"):
        Marconi("winner", -1)


def test_sequences_are_equal_where_their_segments_are() -> None:
    left, right = Path.of(("a", 10), ("b", 5)), Path.of(("a", 10), ("c", 5))
    assert left.key(10) == right.key(10) == Path.of(("a", 10)).key(10)
    assert left.key(4) == right.key(4)
    assert left.key(11) != right.key(11)
    assert Path.of(("a", 10), ("b", 5)).key(15) == left.key(15)
    with pytest.raises(BadInput, match="segment 'd' has tokens=0"):
        left.extended("d", 0)
