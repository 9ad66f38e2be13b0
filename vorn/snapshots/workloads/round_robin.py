"""Many conversations of equal standing, resumed in turn."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance, Talk
from vorn.snapshots.workloads.draw import Draw


@dataclass(frozen=True, kw_only=True)
class RoundRobin:
    """Conversations are built one after another, then resumed round by round; the resumes are measured.

    Source: Atlas pull request 207, the multi-conversation benchmark; sizes in conf are its nominal ones times 1.373.
    """

    conversations: int
    system_tokens: int
    build_turns: int
    turn_tokens: int
    generated: int
    rounds: int
    resume_tokens: int
    spread: float

    def instance(self, name: str, seed: int, placement: Placement) -> Instance:
        """The draw of one seed."""
        draw = Draw(seed, self.spread)
        requests, talks = [], []
        for number in range(self.conversations):
            talk = Talk(f"{name}/talk{number}", 1 + number, placement)
            talks.append(talk)
            requests.append(talk.turn(draw.tokens(self.system_tokens + self.turn_tokens), self.generated))
            requests += [talk.turn(draw.tokens(self.turn_tokens), self.generated) for _ in range(self.build_turns - 1)]
        for turn in range(self.rounds):
            for number, talk in enumerate(talks):
                resume = f"{name}/round{turn}-talk{number}"
                requests.append(talk.turn(draw.tokens(self.resume_tokens), self.generated, resume))
        return Instance(name, requests)
