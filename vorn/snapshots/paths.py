"""Token sequences as chains of named segments, so that millions of tokens are simulated without one being stored."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from typing import NamedTuple

from vorn.records import BadInput

ROOT = 0  # key of the empty chain


class PrefixKey(NamedTuple):
    """Identifies the tokens before a position: the chain of segments that covers them, and how many they are."""

    chain: int
    depth: int


class Path:
    """A token sequence. Two segments with the same name hold the same tokens, so one name has one length.

    Attributes:
        chains: for each segment, a 64-bit hash of the chain that ends with it.
        ends: for each segment, how many tokens the sequence has up to its end; strictly increasing.
        names: of the segments.
    """

    __slots__ = ("chains", "ends", "names")

    def __init__(self, chains: tuple[int, ...] = (), ends: tuple[int, ...] = (), names: tuple[str, ...] = ()) -> None:
        self.chains = chains
        self.ends = ends
        self.names = names

    @classmethod
    def of(cls, *segments: tuple[str, int]) -> Path:
        """The sequence of these (name, tokens)."""
        path = cls()
        for name, tokens in segments:
            path = path.extended(name, tokens)
        return path

    def extended(self, name: str, tokens: int) -> Path:
        """The sequence with one more segment. Raises BadInput for a segment without tokens."""
        if tokens < 1:
            raise BadInput(f"segment {name!r} has tokens={tokens}; legal is at least 1; leave empty segments out")
        parent = self.chains[-1] if self.chains else ROOT
        text = f"{parent} {tokens} {name}".encode()
        chain = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") | 1  # never ROOT
        return Path((*self.chains, chain), (*self.ends, self.tokens + tokens), (*self.names, name))

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.ends[-1] if self.ends else 0

    def segment(self, depth: int) -> int:
        """Index of the segment in which the token before position `depth` lies; 1 <= depth <= tokens."""
        return bisect_left(self.ends, depth)

    def key(self, depth: int) -> PrefixKey:
        """Identity of the first `depth` tokens. Raises BadInput unless 1 <= depth <= tokens."""
        if not 1 <= depth <= self.tokens:
            raise BadInput(
                f"depth={depth} of a sequence of {self.tokens} tokens: legal is 1 to {self.tokens}; a state exists "
                "only where tokens were read"
            )
        return PrefixKey(self.chains[self.segment(depth)], depth)
