"""Sizes that differ between seeds, and nothing else drawn from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from vorn.records import BadInput


@dataclass
class Draw:
    """Draws numbers of tokens for one instance."""

    seed: int
    spread: float  # 0: every instance has the mean sizes
    generator: Random = field(init=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.spread < 1.0:
            raise BadInput(f"spread={self.spread}: legal is 0 <= spread < 1; 0.1 draws sizes within 10 %")
        self.generator = Random(self.seed)

    def tokens(self, mean: int) -> int:
        """A whole number >= 1, uniform within the spread around `mean`."""
        return max(1, round(mean * self.generator.uniform(1 - self.spread, 1 + self.spread)))

    def heavy_tokens(self, median: int, sigma: float) -> int:
        """A whole number >= 1, log-normal."""
        return max(1, round(median * self.generator.lognormvariate(0.0, sigma)))
