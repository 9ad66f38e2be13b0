"""What comes to the server: requests in order, some of them the resumes that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from vorn.records import BadInput, digest
from vorn.snapshots.paths import Path
from vorn.snapshots.placement import Placement


@dataclass(frozen=True)
class Request:
    """One request: its prompt, and the tokens generated for it, a segment of their own.

    Attributes:
        session: identity of its conversation; UNTRACKED for none.
        prompt: the tokens read.
        generated: name and number of the tokens generated.
        measured: name of the fixture that this request is, "" if it only makes pressure.
        matched: tokens whose KV the server is said to know; None: what earlier requests have left, in whole blocks.
    """

    session: int
    prompt: Path
    generated: tuple[str, int]
    measured: str = ""
    matched: int | None = None

    @property
    def total(self) -> int:
        """Tokens of prompt and generation."""
        return self.prompt.tokens + self.generated[1]

    @cached_property
    def full(self) -> Path:
        """The prompt with what was generated."""
        return self.prompt.extended(*self.generated) if self.generated[1] else self.prompt


@dataclass(frozen=True)
class Instance:
    """One draw of a workload: what a seed gives. Conversations of one instance compete for one pool."""

    name: str  # `strand/seed3`: the cluster of its fixtures
    requests: Sequence[Request]

    @property
    def fixtures(self) -> list[str]:
        """Names of the measured requests, in order."""
        return [request.measured for request in self.requests if request.measured]

    @property
    def shape(self) -> tuple[object, ...]:
        """All that decides what is stored, matched and evicted: sizes, sessions, and which prefixes are shared."""
        places: dict[int, int] = {}
        return tuple(
            (
                one.session,
                tuple(places.setdefault(chain, len(places)) for chain in one.full.chains),
                tuple(one.full.ends),
                one.prompt.tokens,
                one.matched,
                bool(one.measured),
            )
            for one in self.requests
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that is asked, so that a fixture that changed is refused."""
        return digest(
            [
                [one.session, list(one.prompt.chains), list(one.prompt.ends), list(one.generated), one.measured]
                + ([] if one.matched is None else [one.matched])
                for one in self.requests
            ]
        )


@dataclass
class KnownKV:
    """Which prefixes have KV: all that was ever read, since KV is taken to be unlimited. O(segments) per request."""

    placement: Placement
    _chains: set[int] = field(default_factory=set)

    def match(self, request: Request) -> int:
        """Tokens of the prompt whose KV is known, in whole blocks; at least one token is always left to read.

        Raises: BadInput if the request itself says more than earlier requests have left.
        """
        path, known = request.prompt, 0
        for chain, end in zip(path.chains, path.ends, strict=True):
            if chain not in self._chains:
                break
            known = end
        most = self.placement.floored(min(known, path.tokens - 1))
        if request.matched is None:
            return most
        if request.matched > most:
            raise BadInput(
                f"request {request.measured or path.names[-1]!r} says matched={request.matched}, but earlier requests "
                f"have left {most} tokens of its prompt in whole blocks; legal is at most that; correct the trace"
            )
        return request.matched

    def store(self, request: Request) -> None:
        """The request has been read."""
        path = request.full if self.placement.match_generated else request.prompt
        self._chains.update(path.chains)


@dataclass
class Talk:
    """A conversation as it grows: each turn's prompt holds all turns before it, replies included."""

    name: str
    session: int
    placement: Placement
    path: Path = field(default_factory=Path)
    turns: int = 0

    def turn(self, tokens: int, generated: int, measured: str = "") -> Request:
        """The next turn: `tokens` new ones from the user, `generated` from the model."""
        self.turns += 1
        prompt = self.path.extended(f"{self.name}/user{self.turns}", tokens)
        reply = (f"{self.name}/reply{self.turns}", generated)
        said = (f"{self.name}/rendered{self.turns}", generated) if self.placement.rendered_anew else reply
        self.path = prompt.extended(*said) if generated else prompt
        return Request(self.session, prompt, reply, measured)
