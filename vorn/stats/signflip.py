"""Sign-flip test and interval of a mean difference, for outcomes that are no plain hits and for clustered fixtures.

Under the hypothesis "the differences are symmetric around delta", either sign of each D_i - delta is as good as the
other; what was observed is compared with all sign patterns, or with a seeded draw of them. Fixtures of one cluster
change sign together. Source: Fisher, The Design of Experiments (1935), section 21; the interval is made of the means of
subsets, Hartigan, J. American Statistical Association 64:1303 (1969); counting the observed pattern among the drawn
ones makes p valid: Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9:39 (2010).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from vorn.records import BadInput
from vorn.stats.intervals import Interval
from vorn.stats.lattice import exact_p

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PATTERNS = 10_000  # drawn sign patterns, the observed one included: no p below 1e-4 without an exact distribution
_MOST = 2_000_000  # patterns that a large family is tested with: seconds to minutes, and no p below 5e-7
_PER_STEP = 20  # patterns for each that alpha / family would need: the p of a clear difference is well below it
_SMALL = 0.01  # p-values from PATTERNS that a large family draws again with more; others are far from its first steps
_ENUMERATED = 14  # clusters up to which all patterns are made; they are fewer than those that would be drawn
_BLOCK = 1000  # patterns of a large family that are drawn and counted at a time
_CHUNK = 32  # patterns at a time, so that memory stays small with many fixtures
_TOGETHER = 256  # samples of one matrix product, for the same reason
_EPSILON = 1e-12  # of the largest difference: rounding must not break ties


@dataclass(frozen=True, eq=False)
class SignFlips:
    """The test of one sample of paired differences, at any hypothetical mean."""

    n: int  # differences
    n_clusters: int
    mean: float  # the estimate
    _exact_p: float | None  # two-sided, of mean 0, where it was computed without drawing
    _subset_means: NDArray[np.float64]  # sorted; of what either half of each pattern's signs flips
    _n_empty: int  # halves that flip nothing, which reach any bound
    _tolerance: float
    _fine_p: float | None = None  # of more patterns than `_subset_means` has, where the family asked for them

    @property
    def is_exact(self) -> bool:
        """Whether the p-value stands for all patterns."""
        return self._exact_p is not None or self.n_clusters <= _ENUMERATED

    @property
    def p_value(self) -> float:
        """Two-sided p of mean 0."""
        if self._exact_p is not None:
            return self._exact_p
        drawn = min(1.0, 2 * min(self.p_above(0.0), self.p_below(0.0)))
        return drawn if self._fine_p is None else self._fine_p

    def p_above(self, delta: float) -> float:
        """One-sided p of "the mean is at most `delta`"."""
        counted = int(self._subset_means.searchsorted(delta + self._tolerance, side="right"))
        return (self._n_empty + counted) / self._halves

    def p_below(self, delta: float) -> float:
        """One-sided p of "the mean is at least `delta`"."""
        counted = len(self._subset_means) - int(self._subset_means.searchsorted(delta - self._tolerance, side="left"))
        return (self._n_empty + counted) / self._halves

    def interval(self, level: float) -> Interval:
        """All means that the two-sided test of the same patterns does not reject at 1 - level; infinite with too few.

        Raises: BadInput unless 0 < level < 1.
        """
        if not 0.0 < level < 1.0:
            raise BadInput(f"level={level!r}: legal values lie strictly between 0 and 1; 0.95 is usual")
        rank = math.floor((1.0 - level) / 2 * self._halves - self._n_empty + 1e-9)  # means that are rejected on a side
        if rank < 0:
            return Interval(-math.inf, math.inf)
        return Interval(float(self._subset_means[rank]), float(self._subset_means[-1 - rank]))

    @property
    def _halves(self) -> int:
        return len(self._subset_means) + self._n_empty


class Sample(NamedTuple):
    """Paired differences, lhs minus rhs, finite, and the cluster of each fixture; "" stands alone."""

    differences: Sequence[float]
    clusters: Sequence[str]


def patterns_for(family_size: int, alpha: float) -> int:
    """How many patterns a drawn p-value needs to pass the first step of Holm's correction at `alpha`.

    PATTERNS while these suffice, and where not even _MOST would: then no drawn p-value passes it.
    """
    if family_size <= alpha * PATTERNS or family_size > alpha * _MOST:
        return PATTERNS
    return min(_MOST, math.ceil(_PER_STEP * family_size / alpha))


def sign_flips(differences: Sequence[float], clusters: Sequence[str], seed: int) -> SignFlips:
    """The sign-flip test of one sample. Raises: BadInput as `sign_flips_of_all`."""
    (found,) = sign_flips_of_all([Sample(differences, clusters)], seed)
    if found is None:
        raise RuntimeError("a sample has a test")
    return found


def sign_flips_of_all(samples: Sequence[Sample | None], seed: int, patterns: int = PATTERNS) -> list[SignFlips | None]:
    """The sign-flip test of each sample; None where there is none.

    Those with as many clusters as another share the patterns, and with them one matrix product.

    Args:
        samples: their fixtures of one cluster flip together.
        seed: of the drawn patterns, where there are too many to make all.
        patterns: from `patterns_for`. With more than PATTERNS, a drawn two-sided p of mean 0 that is at most _SMALL is
            drawn again with so many; intervals and one-sided p stay as they are.
    Raises: BadInput for no difference, one that is not finite, or another number of clusters.
    """
    sums = {index: _by_cluster(sample) for index, sample in enumerate(samples) if sample is not None}
    by_size: dict[int, list[int]] = {}
    for index, (totals, _) in sums.items():
        by_size.setdefault(len(totals), []).append(index)
    tests: list[SignFlips | None] = [None] * len(samples)
    for indices in by_size.values():
        for start in range(0, len(indices), _TOGETHER):
            block = indices[start : start + _TOGETHER]
            for index, test in zip(block, _tests([sums[index] for index in block], seed), strict=True):
                tests[index] = test
        if patterns > PATTERNS:
            small = {
                index: one
                for index in indices
                if (one := tests[index]) is not None and not one.is_exact and one.p_value <= _SMALL
            }
            fine = _fine_p([sums[index][0] for index in small], seed, patterns)
            for index, p_value in zip(small, fine, strict=True):
                tests[index] = replace(small[index], _fine_p=p_value)
    return tests


def _fine_p(sums: Sequence[list[float]], seed: int, patterns: int) -> list[float]:
    """Two-sided p of mean 0 from so many patterns, drawn block by block and counted, so that none is kept.

    To replace a p of at most _SMALL by it is valid: where either is small, one valid p-value is.

    Args:
        sums: of the clusters, as many in each sample.
        seed: of the patterns.
        patterns: how many, the observed one included.
    """
    import numpy as np

    if not sums:
        return []
    columns = np.array(sums).T  # [clusters, samples]
    totals = columns.sum(axis=0)
    least = np.abs(totals) - 2 * _EPSILON * np.abs(columns).max(axis=0)
    counts = np.ones(len(sums), dtype=np.int64)  # the observed pattern
    random = np.random.default_rng((seed, patterns))
    for start in range(1, patterns, _BLOCK):
        drawn = random.integers(0, 2, (min(_BLOCK, patterns - start), len(columns)), dtype=np.uint8)
        counts += (np.abs(totals - 2 * (drawn.astype(np.float64) @ columns)) >= least).sum(axis=0)
    return [int(count) / patterns for count in counts]


def _tests(groups: Sequence[tuple[list[float], list[int]]], seed: int) -> Iterator[SignFlips]:
    """The tests of samples with the same number of clusters, given the clusters' sums and sizes."""
    import numpy as np

    k = len(groups[0][0])
    flips = _all_patterns(k) if k <= _ENUMERATED else _drawn_patterns(k, seed)
    sizes, inverse = np.unique([group[1] for group in groups], axis=0, return_inverse=True)
    places = inverse.reshape(-1)
    columns = np.concatenate([np.array([group[0] for group in groups]), sizes]).T
    chunks = (flips[start : start + _CHUNK] for start in range(0, len(flips), _CHUNK))
    flipped = np.concatenate([chunk.astype(np.float64) @ columns for chunk in chunks])
    halves = np.concatenate([flipped, columns.sum(axis=0) - flipped])
    for index, (sums, counts) in enumerate(groups):
        size = halves[:, len(groups) + places[index]]
        is_filled = size > 0
        yield SignFlips(
            n=sum(counts),
            n_clusters=k,
            mean=math.fsum(sums) / sum(counts),
            _exact_p=exact_p(sums) if k > _ENUMERATED else None,
            _subset_means=np.sort(halves[is_filled, index] / size[is_filled]),
            _n_empty=len(halves) - int(is_filled.sum()),
            _tolerance=_EPSILON * max(map(abs, sums)),
        )


def _by_cluster(sample: Sample) -> tuple[list[float], list[int]]:
    """Sum and number of the differences of each cluster, in the order of first appearance."""
    differences, clusters = sample
    if not differences or len(clusters) != len(differences) or not all(map(math.isfinite, differences)):
        raise BadInput(
            f"{len(differences)} differences with {len(clusters)} clusters: legal are finite differences, at least 1, "
            "and a cluster for each; leave pairs of cells without common fixtures out"
        )
    if not any(clusters):
        return list(differences), [1] * len(differences)
    members: dict[object, list[float]] = {}
    for index, (difference, cluster) in enumerate(zip(differences, clusters, strict=True)):
        members.setdefault(cluster or index, []).append(difference)
    return [math.fsum(group) for group in members.values()], [len(group) for group in members.values()]


def _all_patterns(k: int) -> NDArray[np.uint8]:
    """Flip (1) or not (0), [2^(k-1), k]: the first never flips, since a pattern and its opposite belong together."""
    import numpy as np

    return (np.arange(2 ** (k - 1))[:, None] >> np.arange(k)[::-1] & 1).astype(np.uint8)


@lru_cache(maxsize=4)
def _drawn_patterns(k: int, seed: int) -> NDArray[np.uint8]:
    """The observed pattern, in which nothing flips, and random ones: [PATTERNS, k]."""
    import numpy as np

    patterns = np.random.default_rng(seed).integers(0, 2, (PATTERNS, k), dtype=np.uint8)
    patterns[0] = 0
    return patterns
