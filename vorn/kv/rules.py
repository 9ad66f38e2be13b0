"""What a policy ranks the entries of its cache by while it decodes. Each rule stands beside its policy's scorer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vorn.kv.signals import PrefillSignals, Scorer


@dataclass(frozen=True)
class DecodeStep:
    """One token read by rows that decode together, all of the same prompt and policy.

    L is 1 where a set is kept for all layers, H where it is kept for all heads of a layer.

    Attributes:
        position: of the token.
        positions: [L, rows, H, slots] of the entries held, the token's own included; -1 where a slot is free.
        slots: [L, rows, H, 1] where the token's own entry stands.
        attention: [L, rows, H, slots] float32 weights of the token's query, mean over what shares a set; None if the
            rule does not use them.
        residual: [rows, D] after the rule's layer, in the model's dtype; None likewise.
    """

    position: int
    positions: Tensor
    slots: Tensor
    attention: Tensor | None
    residual: Tensor | None

    def seen_attention(self) -> Tensor:
        """`attention`, for a rule that uses it."""
        if self.attention is None:
            raise RuntimeError("no attention was handed on: the rule must say uses_attention")
        return self.attention

    def seen_residual(self) -> Tensor:
        """`residual`, for a rule that reads one."""
        if self.residual is None:
            raise RuntimeError("no residual was handed on: the rule must name its residual_layer")
        return self.residual


class DecodeRule(Protocol):
    """Scores held entries; made anew for each group of rows, so that it may remember what it saw of them.

    Attributes:
        uses_attention: whether it reads `DecodeStep.attention`.
        residual_layer: decoder layer whose output it reads as `DecodeStep.residual`; None for none.
    """

    uses_attention: bool
    residual_layer: int | None

    def start(self, positions: Tensor, prompt_scores: Tensor) -> None:
        """Called once, before the first step.

        Args:
            positions: [L, rows, H, slots] of what is kept of the prompt; -1 where a slot is free.
            prompt_scores: [L, H, T] float32, by which the prompt was pruned.
        """

    def observe(self, step: DecodeStep) -> None:
        """Called after every step."""

    def scores(self, step: DecodeStep) -> Tensor:
        """[L, rows, H, slots] float32, higher means keep; free slots may hold anything. Follows `observe`."""


class DecodingScorer(Scorer, Protocol):
    """A scorer whose policy goes on evicting while it decodes."""

    def decode_rule(self, signals: PrefillSignals) -> DecodeRule:
        """A fresh rule for rows that decode this prompt."""


def taken(prompt_values: Tensor, positions: Tensor) -> Tensor:
    """[L, rows, H, slots] of values [L, H, T] at positions of the same L and H; position 0 for a free slot."""
    rows, index = positions.shape[1], positions.clamp(min=0)
    return prompt_values[:, None].expand(-1, rows, -1, -1).gather(3, index)
