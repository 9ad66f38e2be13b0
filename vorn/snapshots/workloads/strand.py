"""A deep conversation that lies idle under one-shot pressure and is then resumed."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.paths import Path
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance, Request, Talk
from vorn.snapshots.workloads.draw import Draw


@dataclass(frozen=True, kw_only=True)
class Strand:
    """One conversation is built, then each cycle sends one-shots and resumes it; the resumes are measured.

    Source: Atlas pull request 207, sbr_strand.py; sizes in conf are its nominal ones times 1.373, as its logs show.
    `spread`: sizes are drawn uniformly from 1 - spread to 1 + spread of the mean, so that seeds differ.
    """

    system_tokens: int
    build_turns: int
    turn_tokens: int
    generated: int
    cycles: int
    one_shots: int  # per cycle
    one_shot_tokens: int
    one_shot_generated: int
    resume_tokens: int
    spread: float

    def instance(self, name: str, seed: int, placement: Placement) -> Instance:
        """The draw of one seed."""
        draw = Draw(seed, self.spread)
        talk = Talk(f"{name}/strand", 1, placement)
        requests = [talk.turn(draw.tokens(self.system_tokens + self.turn_tokens), self.generated)]
        requests += [talk.turn(draw.tokens(self.turn_tokens), self.generated) for _ in range(self.build_turns - 1)]
        for cycle in range(self.cycles):
            for shot in range(self.one_shots):
                number = cycle * self.one_shots + shot
                prompt = Path.of((f"{name}/shot{number}", draw.tokens(self.one_shot_tokens)))
                requests.append(Request(2 + number, prompt, (f"{name}/said{number}", self.one_shot_generated)))
            requests.append(talk.turn(draw.tokens(self.resume_tokens), self.generated, f"{name}/resume{cycle}"))
        return Instance(name, requests)
