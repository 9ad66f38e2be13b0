"""Greedy decoding of a panel's cells in one batch, in which each group of rows attends to its own cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vorn.kv.batching import Batch, Group, Row, arrange
from vorn.kv.cache import StepCache, live_positions
from vorn.kv.capture import Prefill, drain, overridden_attention
from vorn.kv.compact import compact, vacated
from vorn.kv.greedy import Greedy, Text, choose
from vorn.kv.held import HeldGroup, sets_to_hold
from vorn.kv.hold import Hold
from vorn.kv.ragged import DecodingGroup, GroupAttention, RaggedGroup
from vorn.kv.recurrent import RowStates, repeated, state_bytes
from vorn.kv.retention import Kept, keep_all
from vorn.kv.rotary import LayerRotation, Rotation
from vorn.records import BadInput

FIRST_TOKENS = ("refeed", "prefill")

# Sees the logits [rows, V] of every step: indices of the branches still running, index of the token they decide.
OnLogits = Callable[[Sequence[int], int, Tensor], None]


@dataclass(frozen=True)
class Branch:
    """A cell to decode: what it keeps of the prompt, None: everything; how it goes on evicting, None: it does not."""

    kept: Kept | None
    hold: Hold | None = None


@dataclass(frozen=True)
class Decoded:
    """What a cell generated.

    Attributes:
        token_ids: without the end-of-sequence token.
        error: why the tokens are no answer; None if they are.
        batch_rows: cells decoded together with this one, itself included.
        gather_s: this cell's equal share of the time in which its batch's pruned caches were filled.
        answer_nll: nats of the answer that `decode` was given; None without one.
    """

    token_ids: tuple[int, ...]
    error: str | None
    batch_rows: int
    gather_s: float
    answer_nll: float | None


@dataclass(frozen=True)
class Decoding:
    """All cells of a panel, in their order, and the seconds that decoding them took together, device drained."""

    cells: tuple[Decoded, ...]
    seconds: float


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prefill: Prefill,
    branches: Sequence[Branch],
    *,
    first_token: str,
    last_token: int,
    max_new_tokens: int,
    eos_ids: frozenset[int],
    pad_id: int | None,
    max_cells: int,
    max_bytes: int,
    question: tuple[int, ...] = (),
    answer: tuple[int, ...] = (),
    on_logits: OnLogits | None = None,
) -> Decoding:
    """Continues a prompt greedily once per branch; the prefill is left as it was.

    Args:
        model: the one that read the prompt.
        prefill: the prompt's cache and last logits.
        branches: one that evicts nothing decodes on the prefill cache itself, without a copy.
        first_token: `refeed`: the prompt's last token is fed again, at its position, over each branch's cache. It is
            then in the cache of every branch: one that did not keep it holds one entry more than it kept.
            `prefill`: no token is fed again; unless there is a question, the first token comes from the prefill's
            logits, and is the same for all branches.
        last_token: id of the prompt's last token.
        max_new_tokens: tokens to generate at most.
        eos_ids: any of them ends a row, and is not part of its tokens.
        pad_id: never generated, unless it is one of `eos_ids`.
        max_cells: rows per batch; more rows make more batches.
        max_bytes: of a batch's pruned caches and recurrent states.
        question: ids that follow what was read: fed at once over each branch's cache, whose rows all get a copy then;
            the first token comes from the last one's logits.
        answer: ids whose likelihood is asked for, as the text's next tokens, from the same caches: they are fed one by
            one after the decoding, over the tokens that were generated.
        on_logits: sees every step's logits.
    """
    greedy = Greedy(max_new_tokens, eos_ids, pad_id)
    _check(first_token, question, greedy, max_cells, max_bytes)
    opening = (last_token,) if first_token == "refeed" else question
    first_new = prefill.signals.prompt_tokens - (first_token == "refeed")
    room = len(opening) + max(max_new_tokens, len(answer)) - 1
    moved = [vacated(branch.kept, first_new) for branch in branches]
    run = _Run(
        model, prefill, greedy, first_new, opening, last_token, answer, on_logits, [Text() for _ in branches], moved,
        room,
    )  # fmt: skip
    rows = _rows(prefill, branches, first_new, None if question else first_new + room)
    drain(prefill.last_logits.device)
    start = perf_counter()
    if not opening:
        run.take(range(len(branches)), 0, prefill.last_logits.expand(len(branches), -1))
    slot_bytes, row_bytes = prefill.cache.slot_bytes(), state_bytes(prefill.states_at(first_new))
    shares: dict[int, tuple[int, float]] = {}
    for batch in arrange(
        rows, room=room, slot_bytes=slot_bytes, state_bytes=row_bytes, max_cells=max_cells, max_bytes=max_bytes
    ):
        shares.update(run.batch(batch))
    drain(prefill.last_logits.device)
    seconds = perf_counter() - start - sum(gather_s for _, gather_s in shares.values())
    texts = enumerate(run.texts)
    return Decoding(
        tuple(Decoded(tuple(t.token_ids), t.error, *shares[index], t.answer_nll) for index, t in texts), seconds
    )


def _check(first_token: str, question: tuple[int, ...], greedy: Greedy, max_cells: int, max_bytes: int) -> None:
    if first_token not in FIRST_TOKENS:
        raise BadInput(f"decode.first_token={first_token!r}: legal values are {', '.join(FIRST_TOKENS)}; choose one")
    if question and first_token == "refeed":
        raise ValueError("a question follows what was read, of which nothing is fed again: pass first_token='prefill'")
    for name, value in (
        ("task.max_new_tokens", greedy.max_new_tokens),
        ("decode.max_cells", max_cells),
        ("decode.max_bytes", max_bytes),
    ):
        if value < 1:
            raise BadInput(f"{name}={value}: must be at least 1; raise {name}")


def _rows(prefill: Prefill, branches: Sequence[Branch], first_new: int, end: int | None) -> list[Row]:
    """One row per branch; only one can continue on the prefill cache, up to `end`, a further full branch gets a copy.

    `end`: None if none may continue on it.
    """
    tokens = prefill.signals.prompt_tokens
    if end is not None and end > prefill.cache.capacity:
        raise BadInput(
            f"the prefill cache has room for {prefill.cache.capacity} positions, decoding needs {end}; "
            f"raise `room` of the prefill to the tokens that are fed, {end - tokens}"
        )
    full = [index for index, branch in enumerate(branches) if branch.kept is None and branch.hold is None]
    whole = full[0] if full and end is not None else None
    rows = []
    for index, branch in enumerate(branches):
        kept = branch.kept or keep_all(tokens, prefill.signals.device)
        if kept.prompt_tokens != tokens:
            raise ValueError(f"branch {index} was pruned for a prompt of {kept.prompt_tokens} tokens, not {tokens}")
        if kept.is_compact and any(layer.is_sliding for layer in prefill.cache.layers):
            raise BadInput(
                "positions=compact: the model has layers with a sliding window, which hold no entries before it, while "
                "compact positions would bring some of them into sight again; choose a model without sliding windows, "
                "shorter prompts, or a policy without positions=compact"
            )
        if branch.hold is not None:
            sets = sets_to_hold(kept, first_new, len(prefill.cache.layers))
            company = f"{branch.hold.scorer} {branch.hold.unit_ids is None} {kept.is_compact}"
            rows.append(Row(index, sets, kept.is_compact, branch.hold, company))
            continue
        positions = None if index == whole else live_positions(prefill.cache, kept, first_new)
        rows.append(Row(index, positions, kept.is_compact))
    return rows


@dataclass(eq=False)
class _Run:
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
