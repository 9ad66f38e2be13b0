"""One growing conversation with one-shots between its turns, in a small pool."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.paths import Path
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance, Request, Talk
from vorn.snapshots.workloads.draw import Draw


@dataclass(frozen=True, kw_only=True)
class LeaseRig:
    """A conversation of `turns` turns, `one_shots` before each later one; the later turns are measured.

    Source: Atlas pull request 345's test rig: 8 slots, 8 turns from 2,400 to 6,000 tokens, 6 one-shots per turn.
    """

    first_tokens: int
    turns: int
    turn_tokens: int
    generated: int
    one_shots: int  # between two turns
    one_shot_tokens: int
    spread: float

    def instance(self, name: str, seed: int, placement: Placement) -> Instance:
        """The draw of one seed."""
        draw = Draw(seed, self.spread)
        talk = Talk(f"{name}/talk", 1, placement)
        requests = [talk.turn(draw.tokens(self.first_tokens), self.generated)]
        for turn in range(1, self.turns):
            for shot in range(self.one_shots):
                number = turn * self.one_shots + shot
                prompt = Path.of((f"{name}/shot{number}", draw.tokens(self.one_shot_tokens)))
                requests.append(Request(2 + number, prompt, (f"{name}/said{number}", self.generated)))
            requests.append(talk.turn(draw.tokens(self.turn_tokens), self.generated, f"{name}/turn{turn}"))
        return Instance(name, requests)
