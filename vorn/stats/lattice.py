"""The exact p of a sign-flip test where the distribution of the signed sum can be built up without its patterns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LATTICE = 100_000  # steps of a common fraction up to which the exact distribution of the sum is computed


def exact_p(sums: Sequence[float]) -> float | None:
    """The two-sided p of all patterns where it can be had without making them, else None.

    Where no two sums have opposite signs, only the observed pattern of those that are not 0 and its opposite reach what
    was observed. Where all sums are multiples of one common fraction, as shares of answers are, the distribution of
    their signed sum is built up from those of the clusters whose sums have one size.
    """
    import numpy as np

    if min(sums) >= 0.0 or max(sums) <= 0.0:
        return min(1.0, 2.0 ** (1 - sum(value != 0.0 for value in sums)))
    fractions: dict[float, Fraction] = {}
    for value in dict.fromkeys(sums):  # few outcomes are possible, and the first that is no fraction ends it
        fractions[value] = Fraction(value).limit_denominator(1000)
        if abs(float(fractions[value]) - value) > 1e-9:
            return None
    unit = math.lcm(*(fraction.denominator for fraction in fractions.values()))
    signed = [int(fractions[value] * unit) for value in sums]
    steps = [abs(step) for step in signed]
    reach = sum(steps)
    if reach > _LATTICE:
        return None
    mass = np.ones(1)  # of the signed sums from -reach to reach, once all steps are in
    for step, count in Counter(filter(None, steps)).items():
        stride = 2 * step  # one sign changes the sum by so much, so that each residue is a distribution of its own
        wider = np.zeros(len(mass) + stride * count)
        for first in range(min(stride, len(mass))):
            wider[first::stride] = np.convolve(mass[first::stride], _fair_binomial(count))
        mass = wider
    observed = abs(sum(signed))
    return min(1.0, float(mass[: reach - observed + 1].sum() + mass[reach + observed :].sum()))


@lru_cache(maxsize=64)
def _fair_binomial(n: int) -> NDArray[np.float64]:
    """P(Binomial(n, 1/2) = k) by k, each correctly rounded: [n + 1]."""
    import numpy as np

    term, terms = 1, [1]
    for k in range(n):
        term = term * (n - k) // (k + 1)
        terms.append(term)
    return np.array([one / 2**n for one in terms])
