"""From scores to kept positions: the only selection code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vorn.kv.allocation import Allocation
from vorn.kv.units import UnitRule
from vorn.records import BadInput

EQUAL_SCORES = 1e-8  # standard deviation up to which scores count as equal, as in the published harness


@dataclass(frozen=True, eq=False)
class Kept:
    """The prompt positions that survive, possibly others in each layer and KV head.

    Attributes:
        positions: one tensor per layer that has a cache of its own, or a single one for all; each [1 or Hkv, n] int64,
            row by row ascending and then padded with -1, since layers and heads may keep different counts. One row
            stands for all heads.
        prompt_tokens: T; positions lie in [0, T).
        is_compact: whether the kept entries get new positions, 0 upwards, inside the cache; else they keep theirs.
    """

    positions: tuple[Tensor, ...]
    prompt_tokens: int
    is_compact: bool = False

    def layer(self, index: int) -> Tensor:
        """Positions of one layer, [1 or Hkv, n]."""
        return self.positions[0 if len(self.positions) == 1 else index]

    @property
    def mean_tokens(self) -> float:
        """Kept positions, mean over layers and KV heads."""
        return sum(_mean_count(rows >= 0) for rows in self.positions) / len(self.positions)

    def share_of(self, positions: Sequence[int]) -> float | None:
        """Fraction of `positions` (those of the evidence) kept, mean over layers and KV heads; None without any."""
        if not positions:
            return None
        wanted = torch.tensor(sorted(set(positions)), device=self.positions[0].device)
        found = sum(_mean_count(torch.isin(rows, wanted)) for rows in self.positions) / len(self.positions)
        return found / len(wanted)

    def shares(self) -> Tensor:
        """Of every position, the share of layers and KV heads that keep it: [T] uint8, 0 for none and 255 for all.

        Rounded down, but a position that is kept anywhere has 1 at least.
        """
        total = torch.zeros(self.prompt_tokens, dtype=torch.float64, device=self.positions[0].device)
        for rows in self.positions:
            total += torch.bincount(rows[rows >= 0], minlength=self.prompt_tokens) / len(rows)
        scaled = (255 * total / len(self.positions)).floor().clamp(min=1.0)
        return torch.where(total > 0, scaled, 0.0).to(torch.uint8)


def _mean_count(mask: Tensor) -> float:
    return int(mask.sum()) / mask.shape[0]


def keep_all(prompt_tokens: int, device: torch.device | None = None) -> Kept:
    """Every position, in all layers and heads."""
    return Kept((torch.arange(prompt_tokens, device=device)[None],), prompt_tokens)


def retain(
    scores: Tensor,
    budget: int,
    *,
    unit_ids: Sequence[int] | None,
    rule: UnitRule,
    sinks: int,
    recent: int,
    allocation: Allocation | None = None,
    layers: int = 1,
) -> Kept:
    """Positions kept under a budget: the guards first, then the best scores, ties to the lower position.

    A position of score -inf is kept under no budget, unless it is a guard.

    Args:
        scores: [1 or L, 1 or Hkv, T] floats, higher means keep.
        budget: entries per layer and KV head, in the mean; T or more keeps everything.
        unit_ids: each token's unit as `vorn.kv.units` gives it: scores are then averaged over layers and heads to one
            set for all, and whole units are kept as `rule` says. None ranks single tokens, per layer and head, and
            keeps exactly min(budget, T).
        rule: for units; without effect on single tokens.
        sinks: first tokens that are always kept and count towards the budget.
        recent: last tokens, likewise.
        allocation: spreads the budget over layers and heads; None: evenly. Of units it decides the layers' budgets.
        layers: L, where an allocation must know it and scores are the same for all layers.
    Raises:
        BadInput: if the budget is below 1, or cannot hold the guards.
        ValueError: if a score is NaN, or shapes disagree.
    """
    prompt_tokens = scores.shape[-1]
    _check_guards(budget, sinks, recent, prompt_tokens)
    if torch.isnan(scores).any():
        bad = int(torch.isnan(scores).any(0).any(0).nonzero()[0])
        raise ValueError(
            f"a score is NaN, at position {bad}: scores must be numbers; the policy or the model overflowed"
        )
    banned = scores.isneginf()
    if budget >= prompt_tokens:
        if not banned.any():
            return keep_all(prompt_tokens, scores.device)
        return _kept(~banned | _guards(prompt_tokens, sinks, recent, scores.device))
    if unit_ids is None:
        return _retain_tokens(scores, budget, sinks, recent, allocation, layers)
    if len(unit_ids) != prompt_tokens:
        raise ValueError(f"{len(unit_ids)} unit ids for {prompt_tokens} scores: pass one unit id per prompt token")
    shared = shared_scores(scores)
    budgets = [budget]
    if allocation is not None:
        free = budget - sinks - recent
        counts = allocation(shared[None, None, sinks : prompt_tokens - recent], free, layers)
        budgets = [sinks + recent + layer[0] for layer in counts]
    unit_of = torch.tensor(unit_ids)
    made = {size: _retain_units(shared, size, unit_of, rule, sinks, recent) for size in set(budgets)}
    return _kept(torch.stack([made[size] for size in budgets])[:, None].to(scores.device))


def shared_scores(scores: Tensor) -> Tensor:
    """One score per position, [T] float64 on the CPU: the mean over layers and heads.

    In float64, so that the mean of equal scores stays equal, whatever the number of layers.
    """
    return scores.mean(dim=(0, 1), dtype=torch.float64).cpu()


def units_peak(scores: Tensor, unit_ids: Sequence[int], rule: UnitRule) -> bool:
    """Whether the best unit stands out among units more than the best token among tokens, by `peak_zscore`."""
    shared = shared_scores(scores)
    return peak_zscore(pool(shared, torch.tensor(unit_ids), rule)) > peak_zscore(shared)


def peak_zscore(scores: Tensor) -> float:
    """Distance of the maximum from the mean of [n] scores in (population) standard deviations; 0 if all are equal.

    Source: vorn-mat 2589773, baselines/live_eviction.py, which counts deviations up to 1e-8 as equal scores.
    """
    spread = float(scores.std(correction=0))
    return float(scores.max() - scores.mean()) / spread if spread > EQUAL_SCORES else 0.0


def _kept(mask: Tensor) -> Kept:
    """The positions that a mask [1 or L, 1 or Hkv, T] marks."""
    found = []
    for layer in mask:
        counts = layer.sum(dim=-1)
        rows = torch.full((len(layer), int(counts.max())), -1, device=mask.device)
        rows[torch.arange(rows.shape[1], device=mask.device) < counts[:, None]] = layer.nonzero()[:, 1]
        found.append(rows)
    return Kept(tuple(found), mask.shape[-1])


def _guards(prompt_tokens: int, sinks: int, recent: int, device: torch.device) -> Tensor:
    """[T] bool: the first and the last positions."""
    positions = torch.arange(prompt_tokens, device=device)
    return (positions < sinks) | (positions >= prompt_tokens - recent)


def _check_guards(budget: int, sinks: int, recent: int, prompt_tokens: int) -> None:
    if sinks < 0 or recent < 0:
        raise BadInput(f"guards.sinks={sinks}, guards.recent={recent}: must be at least 0 tokens; raise them")
    if budget < 1:
        raise BadInput(f"budget={budget}: must be at least 1 token; raise budget")
    if budget < min(sinks + recent, prompt_tokens):
        raise BadInput(
            f"budget of {budget} tokens cannot hold {sinks} sink + {recent} recent tokens; "
            f"raise budget to >= {sinks + recent} or lower guards.sinks / guards.recent"
        )


def _retain_tokens(
    scores: Tensor, budget: int, sinks: int, recent: int, allocation: Allocation | None, layers: int
) -> Kept:
    prompt_tokens, free = scores.shape[-1], budget - sinks - recent
    # The guards are cut off before the ranking: a score of +inf in the middle must not tie with them.
    middle = scores[..., sinks : prompt_tokens - recent]
    counts = [[free]] if allocation is None else allocation(middle, free, layers)
    middle = middle.expand(max(len(counts), len(middle)), -1, -1)
    order = middle.sort(dim=-1, descending=True, stable=True).indices  # stable: ties to the lower position
    is_best = torch.arange(order.shape[-1], device=order.device) < torch.tensor(counts, device=order.device)[..., None]
    mask = _guards(prompt_tokens, sinks, recent, scores.device).expand(*middle.shape[:-1], -1).clone()
    mask[..., sinks : prompt_tokens - recent].scatter_(-1, order, is_best.expand_as(order))
    mask[..., sinks : prompt_tokens - recent] &= ~middle.isneginf()
    return _kept(mask)


def _retain_units(scores: Tensor, budget: int, unit_ids: Tensor, rule: UnitRule, sinks: int, recent: int) -> Tensor:
    """[T] bool: the guards, the longest prefix of the ranked units that fits, and single tokens if the rule fills."""
    units, guards = int(unit_ids[-1]) + 1, _guards(len(scores), sinks, recent, scores.device)
    kept = guards.clone()
    if rule.fit == "drop_lowest":
        kept = torch.isin(unit_ids, unit_ids[kept])
        if int(kept.sum()) > budget:
            raise BadInput(
                f"budget of {budget} tokens cannot hold the {int(kept.sum())} tokens of the units that the guards "
                f"({sinks} sink + {recent} recent tokens) touch, which unit.fit=drop_lowest keeps whole; "
                "raise budget, lower guards.sinks / guards.recent, or set unit.fit=prefix"
            )
    ranked = pool(scores, unit_ids, rule).sort(descending=True, stable=True).indices
    cost = torch.bincount(unit_ids[~kept], minlength=units)[ranked]
    fits = cost.cumsum(0) <= budget - int(kept.sum())  # costs are never negative, so this is a prefix
    kept |= torch.isin(unit_ids, ranked[fits])
    if rule.fill:
        order = scores.sort(descending=True, stable=True).indices
        left = order[~kept[order]]
        kept[left[: budget - int(kept.sum())]] = True
    return kept & ~scores.isneginf() | guards


def pool(scores: Tensor, unit_ids: Tensor, rule: UnitRule) -> Tensor:
    """Score of every unit, [units] float64."""
    units = int(unit_ids[-1]) + 1
    if rule.pool == "max":
        return torch.full((units,), -torch.inf, dtype=scores.dtype).scatter_reduce(0, unit_ids, scores, "amax")
    sizes = torch.bincount(unit_ids, minlength=units)
    if rule.pool == "topk_mean":
        best_first = scores.sort(descending=True, stable=True).indices
        by_unit = best_first[unit_ids[best_first].sort(stable=True).indices]  # units in order, best token first in each
        rank = torch.arange(len(scores)) - (sizes.cumsum(0) - sizes)[unit_ids]
        best = by_unit[rank < rule.top_k]
        scores, unit_ids, sizes = scores[best], unit_ids[best], sizes.clamp(max=rule.top_k)
    return torch.zeros(units, dtype=scores.dtype).scatter_add(0, unit_ids, scores) / sizes
