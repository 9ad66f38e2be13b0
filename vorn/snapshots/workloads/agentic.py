"""Long agentic conversations: many short turns with heavy-tailed tool outputs, several conversations at once."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.records import BadInput
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance, Request, Talk
from vorn.snapshots.workloads.draw import Draw


@dataclass(frozen=True, kw_only=True)
class Agentic:
    """`conversations` of `turns` turns each, `active` of them at a time in random order; every few turns are measured.

    A conversation that ends makes place for the next. After Atlas pull request 287 (174 turns, about 20 interleaved
    conversations, 128 slots), whose trace is not published: the turn sizes are guesses, only the shape is comparable.
    """

    conversations: int
    active: int
    turns: int
    system_tokens: int
    turn_tokens: int  # median of what a turn adds
    turn_sigma: float  # of the log-normal
    generated: int
    spread: float
    measure_every: int  # turns

    def instance(self, name: str, seed: int, placement: Placement) -> Instance:
        """The draw of one seed. Raises BadInput unless 1 <= active <= conversations."""
        if not 1 <= self.active <= self.conversations:
            raise BadInput(f"active={self.active} of conversations={self.conversations}: legal is 1 to conversations")
        draw = Draw(seed, self.spread)
        waiting = [Talk(f"{name}/talk{number}", 1 + number, placement) for number in range(self.conversations)]
        running, requests = waiting[: self.active], []
        waiting = waiting[self.active :]
        while running:
            talk = draw.generator.choice(running)
            requests.append(self._turn(talk, draw, name))
            if talk.turns == self.turns:
                place = running.index(talk)
                running[place : place + 1] = waiting[:1]
                waiting = waiting[1:]
        return Instance(name, requests)

    def _turn(self, talk: Talk, draw: Draw, name: str) -> Request:
        if talk.turns == 0:
            return talk.turn(draw.tokens(self.system_tokens), self.generated)
        tokens = draw.heavy_tokens(self.turn_tokens, self.turn_sigma)
        measured = f"{name}/talk{talk.session - 1}-turn{talk.turns}" if talk.turns % self.measure_every == 0 else ""
        return talk.turn(tokens, self.generated, measured)
