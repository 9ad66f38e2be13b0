"""Eviction once, after the whole prompt was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vorn.records import FIRST_TOKENS, Fixture
from vorn.settings import choice

if TYPE_CHECKING:
    from vorn.cells import CellSpec
    from vorn.models.prompts import Prompt
    from vorn.work import Measured, Work


@dataclass(frozen=True)
class PrefillOnce:
    """Scores and prunes once, after the whole prompt; the reference, which evicts nothing, is measured here too.

    Attributes:
        first_token: `refeed`: the last prompt token is fed again over the pruned cache, so that no logit comes from
            the unpruned one. `prefill`: the first token comes from the prefill's logits.
    """

    first_token: str

    def __post_init__(self) -> None:
        choice("decode.first_token", self.first_token, FIRST_TOKENS)

    @property
    def scores_prompt(self) -> bool:
        """It does."""
        return True

    @property
    def is_batched(self) -> bool:
        """They do."""
        return True

    def check(self, cell: CellSpec) -> None:
        """Nothing: every policy can be pruned once."""

    def budgeted_tokens(self, fixture: Fixture, prompt: Prompt) -> int:
        """All of the prompt."""
        return len(prompt.input_ids)

    def release(self) -> None:
        """Nothing is held."""

    def measure(self, work: Work) -> list[Measured]:
        """All cells of one prefill, decoded together."""
        read = work.prompt_prefill()
        return work.decode(read, work.prune(read, work.item.prompt), first_token=self.first_token)
