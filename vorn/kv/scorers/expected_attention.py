"""ExpectedAttention: what the queries still to come would attend to, were they like those of the prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vorn.kv.entries import ValueNorms, new_keys
from vorn.kv.rotary import Rotation, rotate, rotate_back
from vorn.kv.signals import Accumulator, AttentionCall, ModelShape, PrefillSignals, Signal
from vorn.records import BadInput


@dataclass(frozen=True)
class ExpectedAttention:
    """ExpectedAttention (arXiv:2510.00636): expected attention of future queries, times the value's norm.

    Formula: queries before RoPE are taken as normal with mean m and covariance S over the prompt's positions from
    `sinks` on, per query head h. R is the mean RoPE rotation of the `future` positions after the prompt, c the model's
    scaling of dot products. z_{l,h,i} = c k_i.(R m) + c^2/2 k_i'(R S R')k_i for every key k_i after RoPE, i >= sinks;
    score_{l,g,i} = |v_i| (epsilon + mean over the heads h of group g of softmax_i z_{l,h,i}). The first `sinks`
    positions score above all others, the first highest.
    Query norm (Qwen3, Gemma 3): m and S are those of the queries after the norm, which is what RoPE turns; the formula
    is otherwise the same. The published code first took m and S from the projection's weights, which a norm forbids.
    Published defaults: sinks = 4, future = 512, covariance and value norm used, epsilon = 0.
    GQA: mean of the softmaxed scores over the query heads that share a KV head, as published.
    Departure: a soft cap and a sliding window are not part of the expectation; a model's scale of RoPE (YaRN) is
    taken out of the queries before the statistics and is again in R.
    Source: NVIDIA/kvpress, expected_attention_press.py.

    Attributes:
        sinks: first positions, always kept and left out of the statistics.
        future: positions after the prompt over which the rotation is averaged.
        epsilon: added to every expected attention, so that large values count even where none is expected.
    """

    sinks: int
    future: int
    epsilon: float

    def __post_init__(self) -> None:
        if self.sinks < 0:
            raise BadInput(f"policy.expected_attention.sinks={self.sinks}: must be at least 0 tokens; raise it")
        if self.future < 1:
            raise BadInput(f"policy.expected_attention.future={self.future}: must be at least 1 position; raise it")
        if self.epsilon < 0:
            raise BadInput(f"policy.expected_attention.epsilon={self.epsilon}: must be at least 0; raise it")

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Expected dot products and the norms of the values."""
        return frozenset({ExpectedProducts(self.sinks, self.future), ValueNorms()})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [L, Hkv, T] float32, at least 0."""
        shape, tokens = signals.shape, signals.prompt_tokens
        if self.sinks >= tokens:
            raise BadInput(
                f"policy.expected_attention.sinks={self.sinks}: must be fewer than the prompt's {tokens} tokens; "
                "lower it or lengthen the prompts"
            )
        expected = signals[ExpectedProducts(self.sinks, self.future)][..., self.sinks :].softmax(dim=-1)
        by_group = expected.view(shape.layers, shape.kv_heads, -1, tokens - self.sinks).mean(dim=2)
        scores = (by_group + self.epsilon) * signals[ValueNorms()][..., self.sinks :]
        order = torch.arange(self.sinks, 0, -1, dtype=torch.float32, device=scores.device)
        first = scores.amax(dim=(1, 2), keepdim=True) + order
        return torch.cat([first.expand(-1, shape.kv_heads, -1), scores], dim=-1)


@dataclass(frozen=True)
class ExpectedProducts:
    """Logarithm of every key's expected exponentiated dot product with a future query: [L, H, T] float32.

    Attributes:
        sinks: first positions whose queries are left out.
        future: positions after the prompt that are meant.
    """

    sinks: int
    future: int

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return _QueryStatistics(self, shape, prompt_tokens)


@dataclass(eq=False)
class _Moments:
    """Running count, mean [H, D] and scatter [H, D, D] of one layer's queries, in float32."""

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, queries: Tensor) -> _Moments:
        mean = queries.mean(dim=1)
        centred = queries - mean[:, None]
        return cls(queries.shape[1], mean, centred.transpose(1, 2) @ centred)

    def add(self, other: _Moments) -> None:
        """Joins the moments of further queries (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        weight = self.count * other.count / count
        self.scatter = self.scatter + other.scatter + weight * shift[:, :, None] * shift[:, None]
        self.mean = self.mean + shift * (other.count / count)
        self.count = count


class _QueryStatistics:
    residual_layers: frozenset[int] = frozenset()

    def __init__(self, signal: ExpectedProducts, shape: ModelShape, prompt_tokens: int) -> None:
        self.signal = signal
        self.prompt_tokens = prompt_tokens
        self.next_position = 0  # after the tokens seen so far
        self.moments: list[_Moments | None] = [None] * shape.layers
        self.keys: list[list[Tensor]] = [[] for _ in range(shape.layers)]
        self.scaling = [0.0] * shape.layers
        self.rotations: list[Rotation | None] = [None] * shape.layers

    def on_attention(self, layer: int, call: AttentionCall) -> None:
        self.keys[layer].append(new_keys(call))
        self.scaling[layer], self.rotations[layer] = call.scaling, call.rotation
        skipped = max(0, self.signal.sinks - call.first_query)
        queries = call.query[0, :, skipped:].float()
        if queries.shape[1] == 0:
            return
        positions = call.turned_by[skipped:].to(queries.device)
        self.next_position = int(call.turned_by[-1]) + 1
        fresh = _Moments.of(rotate_back(queries, call.rotation.tables(positions)))
        seen = self.moments[layer]
        if seen is None:
            self.moments[layer] = fresh
        else:
            seen.add(fresh)

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        pass

    def result(self) -> Tensor:
        products = [self._layer(layer) for layer in range(len(self.keys))]
        return torch.stack([one.to(products[0].device) for one in products])

    def _layer(self, layer: int) -> Tensor:
        keys = torch.cat(self.keys[layer], dim=1).float()
        moments, rotation, scaling = self.moments[layer], self.rotations[layer], self.scaling[layer]
        if moments is None or rotation is None:  # every position is a sink; the scorer refuses such a prompt
            return keys.new_zeros(len(keys), self.prompt_tokens)
        ahead = torch.arange(self.next_position, self.next_position + self.signal.future, device=keys.device)
        cos, sin = rotation.tables(ahead)
        mean_tables = cos.mean(dim=0), sin.mean(dim=0)
        mean = rotate(moments.mean, mean_tables)
        turned = rotate(moments.scatter / moments.count, mean_tables)  # S R'
        covariance = rotate(turned.transpose(1, 2), mean_tables)  # R S R', which is symmetric
        group = len(mean) // len(keys)
        heads = zip(mean, covariance, strict=True)
        return torch.stack(
            [
                scaling * (keys[head // group] @ m)
                + scaling**2 / 2 * ((keys[head // group] @ s) * keys[head // group]).sum(dim=-1)
                for head, (m, s) in enumerate(heads)
            ]
        )
