"""Decoding without a cache that outlives an eviction: what stays is read again without what was dropped.

This is what the released harness of the vorn-mat paper does (vorn-mat 2589773, local_exec.py). At every step all active
tokens, those of the prompt and those generated, are read. If there are more than the budget, the policy scores them as
they are now and drops some for good, and the rest is read once more, now without a trace of the others, before the next
token is chosen. Kept tokens stay at their positions; windows of sliding layers are counted in places among the active
tokens, as the models' own masks do, so that a local layer sees the last W tokens that are left, however far away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vorn.kv.capture import Prefill, drain
from vorn.kv.greedy import Greedy, Text, choose
from vorn.kv.policy import CellPolicy
from vorn.kv.reread import ActiveTokens
from vorn.kv.signals import PrefillSignals, Step
from vorn.records import BadInput, digest


@dataclass(frozen=True)
class ReforwardCell:
    """A cell to decode.

    Attributes:
        policy: what it scores and ranks; one set of tokens stays for all layers and heads.
        budget_tokens: active tokens beyond which some are dropped, those generated included.
        sinks: first active tokens that stay.
        recent: last active tokens that stay.
        unit_ids: of the prompt's tokens; every generated token is a unit of its own.
    """

    policy: CellPolicy
    budget_tokens: int
    sinks: int
    recent: int
    unit_ids: Sequence[int]


@dataclass(frozen=True)
class Reforwarded:
    """What a cell generated, and what that took.

    Attributes:
        token_ids: without the end-of-sequence token.
        error: why the tokens are no answer; None if they are.
        answer_nll: nats of the answer that was given, tokens being dropped from it as from what is generated; None
            without one.
        active: for each choice of a token, the last one included, the absolute positions it was made from.
        evictions: how often tokens were dropped.
        forwards: of this cell alone, an answer's among them; the shared reading of the prompt is not.
        forward_tokens: tokens that went through them.
        score_s: seconds of scoring and selection.
        seconds: of everything, `score_s` included, device drained.
    """

    token_ids: tuple[int, ...]
    error: str | None
    answer_nll: float | None
    active: tuple[tuple[int, ...], ...]
    evictions: int
    forwards: int
    forward_tokens: int
    score_s: float
    seconds: float


def is_cached(setting: str | bool, dtype: torch.dtype) -> bool:
    """Whether a step reads one token over what the re-reading has stored, for `cached` of auto or False.

    Every supported model is causal, so that the tokens before the new one have the same states either way: the forwards
    are half as many tokens, and outcomes are equal in exact arithmetic, but for Nemotron-H, whose lone tokens know no
    lower bound of time steps. In half precision they would differ by rounding, which `auto` avoids.
    """
    return setting == "auto" and dtype in (torch.float32, torch.float64)


def check_attention(model: PreTrainedModel) -> None:
    """Raises BadInput for an attention implementation that takes gaps between positions for borders of packed texts."""
    name = model.get_decoder().config._attn_implementation
    if "flash" in name:
        raise BadInput(
            f"model.attn_implementation={name!r}: takes gaps between positions, which contract=reforward makes, for "
            "borders between packed texts; give model.attn_implementation=sdpa"
        )


@torch.inference_mode()
def reforward(
    model: PreTrainedModel,
    prompt: Prefill,
    input_ids: Sequence[int],
    cell: ReforwardCell,
    greedy: Greedy,
    *,
    text: str,
    cached: bool,
    chunk_tokens: int | None,
    answer: Sequence[int] = (),
) -> Reforwarded:
    """Continues a prompt greedily, dropping tokens from the text.

    Args:
        model: the one that read the prompt.
        prompt: its reading, which all cells share; it is the scoring forward of the first step.
        input_ids: of the prompt.
        cell: what is dropped.
        greedy: how tokens are chosen.
        text: the fixture's prompt, for policies that draw by it.
        cached: False: every step reads all active tokens. True: the new token alone, over what was stored.
        chunk_tokens: tokens of one forward at most; None for no limit.
        answer: ids whose likelihood is asked for, as the text's next tokens.
    Raises: ValueError if scores are no numbers, or guarded units exceed the budget.
    """
    device = prompt.last_logits.device
    drain(device)
    start = perf_counter()
    run = _Run(model, prompt, input_ids, cell, greedy, text, cached, chunk_tokens)
    said = run.generate()
    run.tokens.release()  # before the answer is weighed over a cache of its own
    runs = [run]
    if answer:
        runs.append(_Run(model, prompt, input_ids, cell, greedy, text, cached, chunk_tokens))
        said.weigh(runs[1].weigh(answer))
    drain(device)
    return Reforwarded(
        tuple(said.token_ids),
        said.error,
        said.answer_nll,
        tuple(run.active),
        sum(one.evictions for one in runs),
        sum(one.tokens.forwards for one in runs),
        sum(one.tokens.forward_tokens for one in runs),
        sum(one.score_s for one in runs),
        perf_counter() - start,
    )


class _Run:
    """One cell on one prompt: what is chosen and dropped, token after token."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompt: Prefill,
        input_ids: Sequence[int],
        cell: ReforwardCell,
        greedy: Greedy,
        text: str,
        cached: bool,
        chunk_tokens: int | None,
    ) -> None:
        self.prompt, self.cell, self.greedy, self.text = prompt, cell, greedy, text
        needs = cell.policy.needs(prompt.signals.shape)
        self.tokens = ActiveTokens(
            model, prompt, input_ids, cell.unit_ids, needs, cell.budget_tokens, cached, chunk_tokens
        )
        self.active: list[tuple[int, ...]] = []
        self.evictions = 0
        self.score_s = 0.0

    def generate(self) -> Text:
        """What is said, token after token."""
        said = Text()

        def best(logits: Tensor) -> int | None:
            tokens, without_choice = choose(logits[None], self.greedy)
            said.take(tokens[0], without_choice[0], self.greedy)
            return None if said.is_done else tokens[0]

        self.go_on(best)
        return said

    def weigh(self, answer: Sequence[int]) -> float:
        """Negative log-likelihood of an answer, in nats, summed over its tokens."""
        total, left = 0.0, list(answer)

        def given(logits: Tensor) -> int | None:
            nonlocal total
            token = left.pop(0)
            total -= float(logits.float().log_softmax(dim=-1)[token])
            return token if left else None

        self.go_on(given)
        return total

    def go_on(self, next_token: Callable[[Tensor], int | None]) -> None:
        """Asks for token after token, until there is None.

        The first step's scoring forward is the shared reading of the prompt.
        """
        logits = self.prompt.last_logits
        while True:
            if len(self.tokens.ids) > self.cell.budget_tokens:
                self.drop()
                logits = self.tokens.read_again()
            self.active.append(tuple(self.tokens.positions))
            token = next_token(logits)
            if token is None:
                return
            logits = self.tokens.append(token)

    def drop(self) -> None:
        """Scores the active tokens and drops some of them."""
        drain(self.prompt.last_logits.device)
        start = perf_counter()
        self.tokens.keep(self.select())
        self.evictions += 1
        drain(self.prompt.last_logits.device)
        self.score_s += perf_counter() - start

    def select(self) -> list[int]:
        """Places of the tokens that stay."""
        cell, shared, positions = self.cell, self.prompt.signals, self.tokens.positions
        evidence = set(shared.evidence)
        signals = PrefillSignals(
            self.tokens.captured(),
            len(positions),
            shared.shape,
            # Policies that draw would drop the same place at every step, were the seed the same.
            int(digest([shared.seed, positions]), 16) >> 1 if self.evictions else shared.seed,
            shared.device,
            tuple(place for place, position in enumerate(positions) if position in evidence),
            Step(self.text, tuple(positions), cell.budget_tokens, cell.sinks, cell.recent),
        )
        dense = {unit: number for number, unit in enumerate(dict.fromkeys(self.tokens.units))}
        kept = cell.policy.keep(
            signals,
            [dense[unit] for unit in self.tokens.units],
            cell.budget_tokens,
            sinks=cell.sinks,
            recent=cell.recent,
            is_one_set=True,
        )
        places: list[int] = kept.positions[0][0].tolist()
        return places
