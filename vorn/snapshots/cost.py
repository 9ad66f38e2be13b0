"""Cost laws: seconds until the first token when tokens start+1 .. end of a prompt must be read."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vorn.records import BadInput


class Cost(Protocol):
    """A law. Replayed tokens and new ones cost the same: both need the whole model."""

    def seconds(self, start: int, end: int) -> float:
        """Time to the first token with the state after `start` tokens restored (0 for none) and a prompt of `end`."""


@dataclass(frozen=True)
class Affine:
    """base_s + per_token_s for each token. The default numbers of conf are a fit to Atlas pull request 207's own table:
    0.429 s + 1.200 ms per token within 0.07 s on five of its seven points; two rows do not fit (0.30 s and 1.17 s off).
    """

    base_s: float
    per_token_s: float

    def __post_init__(self) -> None:
        _check_positive(self, base_s=0.0, per_token_s=math.ulp(0.0))

    def seconds(self, start: int, end: int) -> float:
        """See `Cost`."""
        return self.base_s + self.per_token_s * (end - start)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a model over a rate: attention grows with the position, everything else does not.

    A token at position t (1-based) takes 2 * active_parameters + 4 * attention_layers * heads * head_dim * t: a
    multiplication and an addition per active weight, and QK^T and AV of each full-attention layer. Overheads of kernels
    and memory traffic are left out.

    Attributes:
        active_parameters: weights that one token is multiplied with (of a mixture of experts only the chosen ones).
        flops_per_s: what the machine achieves.
    """

    active_parameters: float
    attention_layers: int
    heads: int
    head_dim: int
    flops_per_s: float
    base_s: float

    def __post_init__(self) -> None:
        _check_positive(self, active_parameters=1.0, attention_layers=0, heads=0, head_dim=0, flops_per_s=1.0, base_s=0)

    def flops(self, start: int, end: int) -> float:
        """Operations for tokens start+1 .. end."""
        positions = (end * (end + 1) - start * (start + 1)) / 2
        context = 4 * self.attention_layers * self.heads * self.head_dim * positions
        return 2 * self.active_parameters * (end - start) + context

    def seconds(self, start: int, end: int) -> float:
        """See `Cost`."""
        return self.base_s + self.flops(start, end) / self.flops_per_s


@dataclass(frozen=True)
class Measured:
    """Interpolates measured (tokens recomputed, seconds) linearly, and goes on beyond the last with the last slope.

    The points are those of one machine and prompt length; what depends on the position is averaged away.
    """

    points: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        tokens = [point[0] for point in self.points if len(point) == 2]
        if len(tokens) < 2 or len(tokens) < len(self.points) or sorted(set(tokens)) != tokens or tokens[0] < 0:
            raise BadInput(
                f"cost.points={[list(point) for point in self.points]}: legal are at least two [tokens, seconds] with "
                "increasing tokens >= 0; measure them with engine=executed"
            )
        if any(not 0 <= point[1] < math.inf for point in self.points):
            raise BadInput(f"cost.points={[list(point) for point in self.points]}: legal are finite seconds >= 0")

    def seconds(self, start: int, end: int) -> float:
        """See `Cost`."""
        tokens = float(end - start)
        place = min(max(bisect_left(self.points, tokens, key=_tokens), 1), len(self.points) - 1)
        (x0, y0), (x1, y1) = self.points[place - 1], self.points[place]
        return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)


def _tokens(point: Sequence[float]) -> float:
    return point[0]


def _check_positive(law: object, **least: float) -> None:
    for name, low in least.items():
        value = getattr(law, name)
        if not low <= value < math.inf:
            legal = "a number > 0" if low and low < 1 else f"a number >= {low:g}"
            raise BadInput(f"cost.{name}={value!r}: legal is {legal}; correct the cost law")
