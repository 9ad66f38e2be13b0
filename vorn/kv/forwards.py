"""How the rows of a decoding go forward: one call of the model per step, in which each group has its own cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vorn.kv.batching import Batch, Group
from vorn.kv.buffers import StepCache
from vorn.kv.capture import Prefill, drain
from vorn.kv.compact import compact
from vorn.kv.greedy import Greedy, Text, choose
from vorn.kv.held import HeldGroup
from vorn.kv.override import overridden_attention
from vorn.kv.ragged import DecodingGroup, GroupAttention, RaggedGroup
from vorn.kv.recurrent import RowStates, repeated
from vorn.kv.rotary import LayerRotation, Rotation

# Sees the logits [rows, V] of every step: indices of the branches still running, index of the token they decide.
OnLogits = Callable[[Sequence[int], int, Tensor], None]


@dataclass(eq=False)
class Forwards:
    """One call of `decode`: what its batches share, and the rows' tokens so far."""

    model: PreTrainedModel
    prefill: Prefill
    greedy: Greedy
    first_new: int  # position of the first token that is fed
    opening: tuple[int, ...]  # those fed at once before the first token is chosen; () if the prefill's logits choose it
    last_token: int
    answer: tuple[int, ...]
    on_logits: OnLogits | None
    texts: list[Text]
    vacated: list[int]  # positions that each branch's decoding moves back by
    room: int  # tokens that are fed at most

    def batch(self, batch: Batch) -> dict[int, tuple[int, float]]:
        """Decodes a batch; returns each branch's number of rows beside it and its share of the gathering's seconds."""
        start = perf_counter()
        groups = [self.group(group) for group in batch]
        drain(self.prefill.last_logits.device)
        gather_s = perf_counter() - start
        branches = [branch for group in groups for branch in group.branches]
        attention = GroupAttention(self.prefill.signals.shape)
        with overridden_attention(self.model, attention.replace), attention.hooked(self.model, groups):
            self.generate(groups, attention)
            if self.answer:
                # A held cache has lost what it evicted meanwhile; of the others the first slots are as they were.
                attention.groups = ()
                for place, rows in enumerate(batch):
                    if rows[0].hold is not None:
                        del groups[place]  # before the new one is made, so that memory never holds both
                        groups.insert(place, self.group(rows))
                self.weigh(groups, attention)
        return dict.fromkeys(branches, (len(branches), gather_s / len(branches)))

    def group(self, group: Group) -> DecodingGroup:
        """The rows' cache, filled from the prefill's."""
        if group[0].hold is not None:
            rotations = self.rotations() if group[0].is_compact else None
            return HeldGroup(group, self.prefill, self.first_new, self.room, rotations)
        made = RaggedGroup.of(group, self.prefill, self.first_new, self.room)
        self.compact(made)
        return made

    def compact(self, group: RaggedGroup) -> None:
        """Gives the entries of the group's compact rows their new positions."""
        for row, branch in enumerate(group.branches):
            if self.vacated[branch]:
                compact(group.layers, row, self.rotations(), self.first_new - self.vacated[branch])

    def rotations(self) -> list[Rotation]:
        """What turns the keys of each cache."""
        decoder = self.model.get_decoder()
        of, layers = self.prefill.signals.shape.decoder_layer, self.prefill.cache.layers
        return [LayerRotation(decoder, of(i), one.keys.shape[3]) for i, one in enumerate(layers)]

    def generate(self, groups: Sequence[DecodingGroup], attention: GroupAttention) -> None:
        """Gives every row its text; a group leaves the batch when all of its rows are done."""
        fed, index = 0, 0 if self.opening else 1
        states = self.states(groups)
        while groups := [one for one in groups if not all(self.texts[row].is_done for row in one.branches)]:
            rows = [row for group in groups for row in group.branches]
            # A row that ended without a token goes on with any, as long as others of its group run.
            last = [(self.texts[row].token_ids or [self.last_token])[-1:] for row in rows]
            tokens = last if index else [list(self.opening)] * len(rows)
            states = states.of(rows)
            self.take(rows, index, self.forward(groups, attention, tokens, fed, states))
            for branch, error in self.evict(groups, tokens):
                if not self.texts[branch].is_done:  # what happens to a finished row is no error of its text
                    self.texts[branch].fail(error)
            fed, index = fed + len(tokens[0]), index + 1

    def weigh(self, groups: Sequence[DecodingGroup], attention: GroupAttention) -> None:
        """Gives every row the answer's negative log-likelihood, fed over the slots of what was generated."""
        rows = [row for group in groups for row in group.branches]
        total, fed, states = torch.zeros(len(rows), dtype=torch.float64), 0, self.states(groups)
        for feed, token in zip([self.opening, *((token,) for token in self.answer)], self.answer, strict=False):
            logits = self.prefill.last_logits.expand(len(rows), -1)
            if feed:
                logits = self.forward(groups, attention, [list(feed)] * len(rows), fed, states)
            total -= logits.float().log_softmax(dim=-1)[:, token].double().cpu()
            fed += len(feed)
            if feed and fed < self.room_of_answer:
                for branch, error in self.evict(groups, [list(feed)] * len(rows)):
                    self.texts[branch].fail(error)
        for row, nats in zip(rows, total.tolist(), strict=True):
            self.texts[row].weigh(nats)

    @property
    def room_of_answer(self) -> int:
        """Tokens that are fed to weigh the answer: its last one is not."""
        return len(self.opening) + len(self.answer) - 1

    def states(self, groups: Sequence[DecodingGroup]) -> RowStates:
        """The prompt's recurrent states, a copy for every row."""
        return repeated(self.prefill.states_at(self.first_new), [row for group in groups for row in group.branches])

    def forward(
        self,
        groups: Sequence[DecodingGroup],
        attention: GroupAttention,
        tokens: list[list[int]],
        fed: int,
        states: RowStates,
    ) -> Tensor:
        """Logits [rows, V] of each row's last token; rows get equally many, behind the `fed` ones before."""
        rows = [row for group in groups for row in group.branches]
        queries = range(self.first_new + fed, self.first_new + fed + len(tokens[0]))
        attention.begin_step(groups, fed, queries)
        device = self.prefill.last_logits.device
        logits: Tensor = self.model(
            input_ids=torch.tensor(tokens, device=device),
            position_ids=torch.tensor([[at - self.vacated[row] for at in queries] for row in rows], device=device),
            past_key_values=StepCache(states.layers),
            # Any mask of four dimensions passes through untouched, so that the model makes none of its own.
            attention_mask=torch.ones(len(rows), 1, 1, 1, dtype=torch.bool, device=device),
            use_cache=True,
            # A tensor, because some models cut the rows of their last layers when this is a number.
            logits_to_keep=torch.tensor([len(queries) - 1], device=device),
        ).logits
        return logits[:, -1]

    def evict(self, groups: Sequence[DecodingGroup], tokens: Sequence[Sequence[int]]) -> Iterator[tuple[int, str]]:
        """Has the groups evict, `tokens` having been fed to their rows; the branches that cannot go on, and why."""
        last = iter(fed[-1] for fed in tokens)
        for group in groups:
            yield from group.end_step(list(islice(last, len(group.branches)))).items()

    def take(self, rows: Sequence[int], index: int, logits: Tensor) -> None:
        """Gives every row that still runs the token number `index` of its text, from [rows, V] logits."""
        running = [place for place, row in enumerate(rows) if not self.texts[row].is_done]
        if self.on_logits is not None:
            self.on_logits([rows[place] for place in running], index, logits[running].clone())
        tokens, without_choice = choose(logits, self.greedy)
        for place in running:
            self.texts[rows[place]].take(tokens[place], without_choice[place], self.greedy)
