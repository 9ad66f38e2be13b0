"""Rows whose caches are held at a budget while they decode: slots are freed by the policy's rule and used again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vorn.kv.batching import Group
from vorn.kv.buffers import gather_held
from vorn.kv.capture import Prefill
from vorn.kv.compact import turned
from vorn.kv.hold import Hold
from vorn.kv.query import Query, readers
from vorn.kv.retention import Kept, retain, shared_scores
from vorn.kv.rotary import Rotation
from vorn.kv.rules import DecodeStep


class HeldGroup:
    """Rows of one policy that share a padded cache of as many slots as the largest of them may fill.

    An entry that a sliding layer has left behind frees its slot, where layers keep sets of their own; of a set for all
    layers it counts until the rule drops it.

    Attributes:
        branches: which branch each row is.
        positions: [L, rows, H, slots] absolute, -1 where a slot is free; L and H are 1 where a set is for all of them.
    """

    def __init__(
        self, group: Group, prefill: Prefill, first_new: int, room: int, rotations: Sequence[Rotation] | None
    ) -> None:
        """`rotations`: of every cache's layer, where entries get new positions inside the cache; else None."""
        self.branches = [row.branch for row in group]
        self.shape, self.first_new = prefill.signals.shape, first_new
        self.holds = [row.hold for row in group if row.hold is not None]
        self.windows = [layer.window for layer in prefill.cache.layers]
        scores = _resolved(prefill.signals.scores(self.holds[0].scorer), self.holds[0])
        width = max(max(row.widths(room)) for row in group)
        self.positions = torch.full((scores.shape[0], len(group), scores.shape[1], width), -1, device=scores.device)
        for index, row in enumerate(group):
            for layer, rows in enumerate(row.positions or ()):
                if layer < len(self.positions):
                    self.positions[layer, index, :, : rows.shape[1]] = rows
        self.rule = self.holds[0].scorer.decode_rule(prefill.signals)
        self.rule.start(self.positions, scores)
        self.layers = [
            gather_held(layer, self.positions[cache if len(self.positions) > 1 else 0])
            for cache, layer in enumerate(prefill.cache.layers)
        ]
        self.rotations = rotations
        if rotations is not None:
            for index, held in enumerate(self.positions[0, :, 0]):
                count = int((held >= 0).sum())
                self._turn(index, torch.arange(count), torch.arange(count) - held[:count].cpu())
        self.readers = readers(self.shape)
        limits = ([hold.budget_tokens for hold in self.holds], [hold.sinks for hold in self.holds])
        self.budgets, self.sinks = (torch.tensor(one, device=scores.device)[:, None] for one in limits)
        self.residual: Tensor | None = None
        self.recents = torch.tensor([hold.recent for hold in self.holds], device=scores.device)[:, None, None]

    @property
    def residual_layer(self) -> int | None:
        """Decoder layer whose output the rule reads."""
        return self.rule.residual_layer

    def on_residual(self, states: Tensor) -> None:
        """Keeps the states [rows, D] of the step's tokens for the rule."""
        self.residual = states

    def begin_step(self, fed: int) -> None:
        """Give the next token a slot in every set; the masks of the step."""
        self.position = self.first_new + fed
        if len(self.positions) > 1:
            for layer, window in zip(self.positions, self.windows, strict=True):
                if window is not None:
                    layer.masked_fill_(layer <= self.position - window, -1)
        self.slots = (self.positions < 0).int().argmax(dim=-1, keepdim=True)  # the first free one
        self.positions.scatter_(3, self.slots, self.position)
        self.biases: dict[tuple[int, int | None, torch.device], Tensor] = {}
        self.attention = torch.zeros(self.positions.shape, device=self.positions.device)
        self.residual = None

    def attend(self, query: Query) -> Tensor:
        """Attention output [rows, 1, heads, D]; the token's own entry is stored first."""
        if self.rotations is not None:
            query.refuse_window()
        cache = self.shape.cache(query.layer)
        keys, values = self.layers[cache]
        slots = self._of(self.slots, cache).expand(-1, keys.shape[1], -1)[..., None]
        keys.scatter_(2, slots.expand(-1, -1, -1, keys.shape[3]), query.key)
        values.scatter_(2, slots.expand(-1, -1, -1, values.shape[3]), query.value)
        bias = self._bias(cache, query)
        if not self.rule.uses_attention:
            return query.attend(keys, values, bias)
        weights = query.weights(keys, bias)
        self._note(cache, weights)
        return query.weighted(values, weights)

    def _of(self, tensor: Tensor, cache: int) -> Tensor:
        """[rows, 1 or heads, n] of one cache, out of [L, rows, H, n], where its keys are."""
        keys = self.layers[cache].keys
        own = tensor[cache if len(tensor) > 1 else 0].to(keys.device)
        return own if own.shape[1] == 1 else own[:, :: own.shape[1] // keys.shape[1]]

    def _bias(self, cache: int, query: Query) -> Tensor:
        """[rows, 1 or heads, 1, slots] with -inf where nothing is held, or what is held is out of sight."""
        key = (cache if len(self.positions) > 1 else 0, query.window, query.query.device)
        if key not in self.biases:
            positions = self._of(self.positions, cache)
            hidden = positions < (0 if query.window is None else max(0, self.position - query.window + 1))
            zeros = torch.zeros(hidden.shape, dtype=query.query.dtype, device=hidden.device)
            self.biases[key] = zeros.masked_fill_(hidden, -torch.inf)[:, :, None]
        return self.biases[key]

    def _note(self, cache: int, weights: Tensor) -> None:
        """Add a layer's weights [rows, KV heads, query heads each, slots] to the means of the sets they belong to."""
        of_heads = weights.mean(dim=2)
        sets = self.attention.shape[2]
        means = of_heads.mean(dim=1, keepdim=True) if sets == 1 else _repeated(of_heads, sets)
        caches = 1 if len(self.attention) > 1 else self.shape.caches
        place = cache if len(self.attention) > 1 else 0
        self.attention[place] += means.to(self.attention.device) / (self.readers[cache] * caches)

    def end_step(self, tokens: Sequence[int]) -> dict[int, str]:
        """Evict, `tokens` having been read; returns why rows could not, by branch."""
        attention = self.attention if self.rule.uses_attention else None
        step = DecodeStep(self.position, self.positions, self.slots, attention, self.residual)
        self.rule.observe(step)
        held = (self.positions >= 0).sum(dim=-1)  # [L, rows, H]
        most = held.amax(dim=(0, 2)).tolist()
        due = [
            most[row] > hold.budget_tokens and hold.trigger.is_due(tokens[row], most[row], hold.budget_tokens)
            for row, hold in enumerate(self.holds)
        ]
        if not any(due):
            return {}
        before = self.positions.clone()
        errors = self._evict(self.rule.scores(step), due)
        if self.rotations is not None:
            self._close_gaps(before)
        return errors

    def _evict(self, scores: Tensor, due: Sequence[bool]) -> dict[int, str]:
        """Cut the rows that are due back to their budgets; why it cannot be done, by branch."""
        if self.holds[0].unit_ids is not None:
            rows = [row for row, is_due in enumerate(due) if is_due]
            return {self.branches[row]: error for row in rows if (error := self._drop_units(row, scores))}
        are_due = torch.tensor(due, device=scores.device)[:, None]
        while bool((over := are_due & ((self.positions >= 0).sum(dim=-1) > self.budgets)).any()):
            self._drop_lowest(scores, over)
        return {}

    def _close_gaps(self, before: Tensor) -> None:
        """Move the entries in front of those that have gone since `before` up by as many positions.

        Distances are then those of a cache without gaps, since RoPE knows no others; only what was in front moves, such
        as a few sinks, while the tokens behind keep their positions and the next one follows them.
        """
        for row, (was, held) in enumerate(zip(before[0, :, 0].cpu(), self.positions[0, :, 0].cpu(), strict=True)):
            gone = was[(was >= 0) & (held < 0)].sort().values
            behind = len(gone) - torch.searchsorted(gone, held)
            slots = ((held >= 0) & (behind > 0)).nonzero()[:, 0]
            if len(slots):
                self._turn(row, slots, behind[slots])

    def _turn(self, row: int, slots: Tensor, by: Tensor) -> None:
        """Move entries of one row by as many positions, [n] each, in all layers."""
        for layer, rotation in zip(self.layers, self.rotations or (), strict=True):
            index = slots.to(layer.keys.device)
            keys = turned(layer.keys[row, :, index], rotation, by.to(layer.keys.device))
            layer.keys[row, :, index] = keys.to(layer.keys.dtype)

    def _drop_lowest(self, scores: Tensor, over: Tensor) -> None:
        """Free the slot of the lowest score in each set that is `over` its budget, the latest among equals."""
        held = self.positions
        guarded = (held < self.sinks[..., None]) | (held > self.position - self.recents)
        ranked = scores.masked_fill(guarded | (held < 0), torch.inf)
        is_lowest = (ranked == ranked.amin(dim=-1, keepdim=True)) & ~guarded & (held >= 0)
        victim = held.masked_fill(~is_lowest, -1).argmax(dim=-1, keepdim=True)
        self.positions.scatter_(3, victim, held.gather(3, victim).masked_fill(over[..., None], -1))

    def _drop_units(self, row: int, scores: Tensor) -> str | None:
        """Prune one row's set anew, by units; why it cannot be done, if it cannot."""
        hold, slots = self.holds[row], self.positions[0, row, 0]
        order = slots.argsort()[int((slots < 0).sum()) :]
        units = _units(hold, slots[order].tolist())
        try:
            kept = retain(
                scores[:, row][..., order],
                hold.budget_tokens,
                unit_ids=units,
                rule=hold.rule,
                sinks=hold.sinks,
                recent=hold.recent,
            )
        except ValueError as error:
            return f"{type(error).__name__}: {error}"
        stays = torch.zeros(len(order), dtype=torch.bool, device=order.device)
        stays[kept.positions[0][0]] = True
        slots[order[~stays]] = -1
        return None


def _resolved(scores: Tensor, hold: Hold) -> Tensor:
    """[1 or L, 1 or Hkv, T], at the resolution at which sets are kept: one for all where units are."""
    return scores if hold.unit_ids is None else shared_scores(scores).float().to(scores.device)[None, None]


def _repeated(of_heads: Tensor, sets: int) -> Tensor:
    """A row for each set, of a cache with fewer heads than others: each of its heads stands in several."""
    return of_heads.repeat_interleave(sets // of_heads.shape[1], dim=1)


def _units(hold: Hold, positions: Sequence[int]) -> list[int]:
    """Dense unit ids of the positions: the prompt's units, then each decoded token as one of its own."""
    if hold.unit_ids is None:
        raise ValueError("the cell drops single tokens, and has no units")
    prompt, after = hold.unit_ids, hold.unit_ids[-1] + 1 - len(hold.unit_ids)
    units = [prompt[p] if p < len(prompt) else p + after for p in positions]
    rank = {unit: place for place, unit in enumerate(sorted(set(units)))}
    return [rank[unit] for unit in units]


def sets_to_hold(kept: Kept, first_new: int, layers: int) -> list[Tensor]:
    """Kept positions below `first_new` of every layer, [1 or Hkv, n], where no set is larger than another.

    Raises: ValueError if one is: an allocation spreads the prompt's entries, but nothing spreads later ones.
    """
    found = []
    for rows in (kept.layer(index) for index in range(layers)):
        counts = (rows < first_new).sum(dim=1)
        if bool((rows < 0).any()) or int(counts.min()) != int(counts.max()):
            raise ValueError("holding a budget needs as many kept entries in every head; choose allocation=uniform")
        found.append(rows[:, : int(counts[0])])
    return found
