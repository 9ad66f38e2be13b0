"""Greedy decoding of a panel's cells together, each from what it keeps of one prefill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from transformers import PreTrainedModel

from vorn.kv.batching import Row, arrange
from vorn.kv.buffers import live_positions
from vorn.kv.capture import Prefill, drain
from vorn.kv.compact import vacated
from vorn.kv.forwards import Forwards, OnLogits
from vorn.kv.greedy import Greedy, Text
from vorn.kv.held import sets_to_hold
from vorn.kv.hold import Hold
from vorn.kv.recurrent import state_bytes
from vorn.kv.retention import Kept, keep_all
from vorn.records import FIRST_TOKENS, BadInput


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
    forwards = Forwards(
        model, prefill, greedy, first_new, opening, last_token, answer, on_logits, [Text() for _ in branches], moved,
        room,
    )  # fmt: skip
    rows = _rows(prefill, branches, first_new, None if question else first_new + room)
    drain(prefill.last_logits.device)
    start = perf_counter()
    if not opening:
        forwards.take(range(len(branches)), 0, prefill.last_logits.expand(len(branches), -1))
    slot_bytes, row_bytes = prefill.cache.slot_bytes(), state_bytes(prefill.states_at(first_new))
    shares: dict[int, tuple[int, float]] = {}
    for batch in arrange(
        rows, room=room, slot_bytes=slot_bytes, state_bytes=row_bytes, max_cells=max_cells, max_bytes=max_bytes
    ):
        shares.update(forwards.batch(batch))
    drain(prefill.last_logits.device)
    seconds = perf_counter() - start - sum(gather_s for _, gather_s in shares.values())
    texts = enumerate(forwards.texts)
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
