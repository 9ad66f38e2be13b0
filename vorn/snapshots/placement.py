"""Where snapshots are taken: a setting of its own, since every policy depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vorn.records import BadInput
from vorn.snapshots.entry import Role

_ROLES = ("tail", "sibling", "leaf", "branch")
_USUAL_BLOCK = 16  # tokens, as in conf/placement/default.yaml: not named in labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which states of a request are stored, in the order of their insertion.

    States exist only where the request computes them: beyond the anchor that it restored.

    Attributes:
        grid: tokens between checkpoints of the prefill, null (None) for none.
        tail: whether the state at the end of the prompt, floored to a block, is stored: where the next turn matches.
        sibling: whether the state one block before the tail is stored too.
        leaf: whether the state after the last generated token is stored.
        branch: whether the state where a prompt leaves what is known is stored (Marconi's speculative insertion).
        block: tokens of a KV block; matches end at whole blocks.
        match_generated: whether the KV of generated tokens is known to later prompts. False: a match ends with the
            earlier prompt, as in the logs of Atlas, where its leaf overshoots the next turn's match.
        rendered_anew: whether a later prompt has other tokens where a reply was generated, as under chat templates that
            drop its thinking: then no leaf is ever a prefix of a later prompt. False: they are the same, so that a leaf
            is usable from the turn after the next on, when the prompt that repeats the reply has been read.
    """

    grid: int | None
    tail: bool
    sibling: bool
    leaf: bool
    branch: bool
    block: int
    match_generated: bool
    rendered_anew: bool

    def __post_init__(self) -> None:
        for name, value in (("grid", self.grid), ("block", self.block)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise BadInput(f"placement.{name}={value!r}: legal is a whole number of tokens >= 1")
        for name in ("tail", "sibling", "leaf", "branch", "match_generated", "rendered_anew"):
            if not isinstance(value := getattr(self, name), bool):
                raise BadInput(f"placement.{name}={value!r} is not legal; give true or false")
        if self.grid is None and not (self.tail or self.sibling or self.leaf or self.branch):
            raise BadInput(
                "placement takes no snapshot at all: give grid, or set tail, sibling, leaf or branch to true"
            )

        if self.match_generated and self.rendered_anew:
            raise BadInput(
                "placement.match_generated=true with placement.rendered_anew=true: legal is one of them; what a later "
                "prompt has other tokens for cannot match"
            )

    @property
    def label(self) -> str:
        """For example `grid=2048+tail+leaf`, with `block=32` or `rendered_anew` behind it where they are not usual."""
        return placement_label(asdict(self))

    def floored(self, tokens: int) -> int:
        """The whole blocks of so many tokens, in tokens."""
        return tokens - tokens % self.block

    def depths(self, *, anchor: int, matched: int, prompt: int, total: int) -> list[tuple[int, Role]]:
        """What a request stores, each depth once.

        Args:
            anchor: tokens restored; nothing at or below it is computed.
            matched: tokens whose KV was known; 0 < matched < prompt makes it a branch point.
            prompt: tokens of the prompt.
            total: of the prompt and what was generated.
        """
        tail = self.floored(prompt)
        wanted: list[tuple[int, Role]] = []
        if self.grid is not None:
            wanted += [(depth, "grid") for depth in range(self.grid, prompt + 1, self.grid)]
        if self.branch and matched < tail:
            wanted.append((matched, "branch"))
        wanted.sort(key=lambda one: one[0])
        if self.tail:
            wanted.append((tail, "tail"))
        if self.sibling:
            wanted.append((tail - self.block, "sibling"))
        if self.leaf:
            wanted.append((total, "leaf"))
        roles: dict[int, Role] = {}
        for depth, role in wanted:  # a grid point that is also the tail is stored when the tail is, and as the tail
            if depth > anchor and depth > 0:
                roles.pop(depth, None)
                roles[depth] = role
        return list(roles.items())


def placement_label(settings: Mapping[str, Any]) -> str:
    """The label of a placement as a manifest records it; a setting that an older ledger lacks is not named."""
    grid, block = settings.get("grid"), settings.get("block")
    return "+".join(
        [
            *([f"grid={grid}"] if grid else []),
            *(name for name in _ROLES if settings.get(name)),
            *([f"block={block}"] if block not in (None, _USUAL_BLOCK) else []),
            *(name for name in ("match_generated", "rendered_anew") if settings.get(name)),
        ]
    )
