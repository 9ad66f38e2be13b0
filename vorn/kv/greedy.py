"""How a row's next token is chosen, and what the row has said so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor


@dataclass(frozen=True)
class Greedy:
    """How tokens are chosen and when a row ends.

    Attributes:
        max_new_tokens: tokens to generate at most.
        eos_ids: any of them ends the row, and is not part of its tokens.
        pad_id: never generated, unless it is one of `eos_ids`.
    """

    max_new_tokens: int
    eos_ids: frozenset[int]
    pad_id: int | None


@dataclass(eq=False)
class Text:
    """A row's tokens so far."""

    token_ids: list[int] = field(default_factory=list)
    answer_nll: float | None = None
    error: str | None = None
    is_done: bool = False

    def take(self, token: int, no_choice: bool, greedy: Greedy) -> None:
        """Goes on with the token that `choose` gives, or ends."""
        if no_choice:
            self.fail(f"all logits are NaN at step {len(self.token_ids)}")
        elif token not in greedy.eos_ids:
            self.token_ids.append(token)
        self.is_done |= token in greedy.eos_ids or len(self.token_ids) == greedy.max_new_tokens

    def fail(self, error: str) -> None:
        """Ends the text; the first error stays."""
        self.error, self.is_done = self.error or error, True

    def weigh(self, nats: float) -> None:
        """Notes an answer's negative log-likelihood; one that is no number is an error."""
        if isfinite(nats):
            self.answer_nll = nats
        else:
            self.error = self.error or f"the answer's log-likelihood is {-nats}"


def choose(logits: Tensor, greedy: Greedy) -> tuple[list[int], list[bool]]:
    """Best token of each row of [rows, V] logits, NaN and the pad token excluded; and the rows with nothing but NaN."""
    legal = logits.masked_fill(logits.isnan(), -torch.inf)
    if greedy.pad_id is not None and greedy.pad_id not in greedy.eos_ids:
        legal[:, greedy.pad_id] = -torch.inf
    return legal.argmax(dim=1).tolist(), legal.isneginf().all(dim=1).tolist()
