"""Oracle cells, which know where the answer's evidence stands: what a budget could do, and what leaks without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.records import BadInput


@dataclass(frozen=True)
class _Oracle:
    """What the oracles share: how many tokens behind the evidence count as evidence."""

    after: int

    def __post_init__(self) -> None:
        if self.after < 0:
            raise BadInput(f"after={self.after} of an evidence policy: must be at least 0 tokens; raise it")

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Nothing of the model; the fixture must name its evidence."""
        return frozenset()


@dataclass(frozen=True)
class EvidenceKeep(_Oracle):
    """The evidence first, then the most recent positions: the ceiling at a budget.

    Formula: score_i = 2 T - i if token i overlaps an evidence span of the fixture or is one of the `after` tokens that
    follow one that does, else i. A miss of this cell is no policy's fault: the budget cannot hold guards and evidence,
    or the model fails with them at hand. `after` is there because a model may read a token's content from the entries
    just behind it: the pocket model reads the last digit of a value there.
    GQA: one set for all layers and heads. Not a policy that could be used: it reads the fixture's evidence.
    """

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1, 1, T] float32, without ties. Raises BadInput for a fixture without evidence."""
        positions = torch.arange(signals.prompt_tokens, dtype=torch.float32, device=signals.device)
        first = 2 * signals.prompt_tokens - positions
        return torch.where(_is_evidence(signals, self.after), first, positions)[None, None]


@dataclass(frozen=True)
class EvidenceDrop(_Oracle):
    """Everything but the evidence: what is guessed, or leaks through what later tokens already carry of it.

    Formula: score_i = -inf if token i overlaps an evidence span of the fixture or is one of the `after` tokens that
    follow one that does, else i. At a budget of 100 % nothing else is dropped. With first_token=refeed the last prompt
    token is there even if it is evidence.
    GQA: one set for all layers and heads. Not a policy that could be used: it reads the fixture's evidence.
    """

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1, 1, T] float32. Raises BadInput for a fixture without evidence."""
        positions = torch.arange(signals.prompt_tokens, dtype=torch.float32, device=signals.device)
        return positions.masked_fill(_is_evidence(signals, self.after), -torch.inf)[None, None]


def _is_evidence(signals: PrefillSignals, after: int) -> Tensor:
    """[T] bool: tokens of the evidence, and the `after` ones behind each. Raises BadInput if there is no evidence."""
    if not signals.evidence:
        raise BadInput(
            "this fixture names no evidence, which evidence_keep and evidence_drop need; leave these policies out, or "
            "give the task's fixtures evidence spans"
        )
    mask = torch.zeros(signals.prompt_tokens, dtype=torch.bool, device=signals.device)
    mask[[p + step for p in signals.evidence for step in range(after + 1) if p + step < signals.prompt_tokens]] = True
    return mask
