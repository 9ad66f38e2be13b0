"""What the pool holds: snapshots of the recurrent state after a prefix."""

from __future__ import annotations

from typing import Literal

from vorn.snapshots.paths import Path, PrefixKey

Role = Literal["grid", "branch", "tail", "sibling", "leaf"]

UNTRACKED = 0  # session of requests that belong to no conversation


class Snapshot:
    """One resident snapshot. Compared by identity; what changes is changed by the index alone.

    Attributes:
        snapshot_id: number of the stored state; a new one each time a state is written.
        path: the sequence it was taken from; only its first `depth` tokens mean anything.
        depth: tokens that the state has read.
        chain: of the segments that cover those tokens.
        session: identity of the conversation, UNTRACKED for none.
        role: why it was taken.
        size_bytes: what it takes of the pool.
        born: clock at the first insertion of this prefix.
        last: clock at the last insertion or counted use.
        hits: counted uses since the first insertion; inserting the prefix again keeps them.
        place: position in storage order: an index into the store if removal swaps, an ever-growing number if it is
            stable. Ties are broken by it.
    """

    __slots__ = (
        "born",
        "chain",
        "depth",
        "hits",
        "last",
        "path",
        "place",
        "role",
        "session",
        "size_bytes",
        "snapshot_id",
    )

    def __init__(
        self, *, snapshot_id: int, path: Path, depth: int, session: int, role: Role, size_bytes: int, clock: int
    ) -> None:
        self.snapshot_id = snapshot_id
        self.path = path
        self.depth = depth
        self.chain = path.key(depth).chain
        self.session = session
        self.role: Role = role
        self.size_bytes = size_bytes
        self.born = clock
        self.last = clock
        self.hits = 0
        self.place = -1

    @property
    def key(self) -> PrefixKey:
        """Of the tokens read; restoring checks it against the request. Made anew: a pool of many would hold many."""
        return PrefixKey(self.chain, self.depth)

    def __repr__(self) -> str:
        return f"Snapshot({self.depth}, session={self.session}, last={self.last}, hits={self.hits})"
