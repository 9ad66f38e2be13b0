"""Sign-flip tests against the enumeration of all sign patterns, McNemar's test and a grid of hypotheses."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from vorn.records import BadInput
from vorn.stats import Sample, patterns_for, sign_flips, sign_flips_of_all
from vorn.stats.signflip import PATTERNS

ALONE = [""] * 1000


def cluster_values(differences, clusters, delta=Fraction(0)):
    groups: dict[object, Fraction] = {}
    for index, (value, cluster) in enumerate(zip(differences, clusters, strict=True)):
        key = cluster or index
        groups[key] = groups.get(key, Fraction(0)) + Fraction(value).limit_denominator(10**6) - delta
    return list(groups.values())


def enumerated(differences, clusters, delta=Fraction(0)) -> tuple[float, float, float]:
    """Oracle: two-sided p, p of "at most delta" and p of "at least delta", over all sign patterns, in fractions."""
    values = cluster_values(differences, clusters, delta)
    observed = sum(values)
    sums = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in product((1, -1), repeat=len(values))]
    counts = (
        sum(abs(one) >= abs(observed) for one in sums),
        sum(one >= observed for one in sums),
        sum(one <= observed for one in sums),
    )
    return tuple(count / len(sums) for count in counts)


SAMPLES = [
    ([0.5], [""]),
    ([0.0, 0.0, 0.0], ["", "", ""]),
    ([0.5, -0.25, 1.0, 0.0, 0.75], [""] * 5),
    ([1 / 3, 1 / 3, -2 / 3, 1.0, 1 / 3, 0.0, -1 / 3], [""] * 7),
    ([1.0, 1.0, 0.0, -1.0, 1.0, 1.0, 1.0, 0.0], ["a", "a", "b", "b", "c", "c", "", ""]),
    ([0.1, 0.2, 0.3, -0.35, 0.71, 1.93, -0.2, 0.4, 0.5], ["a", "", "a", "b", "", "b", "c", "c", "c"]),
]


@pytest.mark.parametrize(("differences", "clusters"), SAMPLES)
def test_all_patterns_give_the_enumerated_p_values(differences, clusters):
    got = sign_flips(differences, clusters, seed=0)
    assert got.is_exact
    assert got.n_clusters == len(cluster_values(differences, clusters))
    assert got.mean == pytest.approx(sum(differences) / len(differences))
    for delta in (Fraction(0), Fraction(1, 3), Fraction(-1, 4), Fraction(1, 20)):
        _, above, below = enumerated(differences, clusters, delta)
        assert (got.p_above(float(delta)), got.p_below(float(delta))) == (above, below)
    assert got.p_value == enumerated(differences, clusters)[0]


@pytest.mark.parametrize("scale", [1, 2, 3, 60])
def test_a_lattice_of_many_differences_gives_the_exact_p(scale):
    """Oracle: the generating function of the signed sum, by whole numbers."""
    steps = np.random.default_rng(scale).integers(-scale, scale + 2, 40)
    ways = {0: 1}
    for step in map(int, steps):
        moved: dict[int, int] = {}
        for total, count in ways.items():
            for end in (total + step, total - step):
                moved[end] = moved.get(end, 0) + count
        ways = moved
    want = Fraction(sum(count for total, count in ways.items() if abs(total) >= abs(int(steps.sum()))), 2**40)
    got = sign_flips([float(step) / scale for step in steps], ALONE[:40], seed=0)
    assert got.is_exact
    assert got.p_value == pytest.approx(float(want), rel=1e-9)


@pytest.mark.parametrize(("lhs_only", "rhs_only", "n"), [(12, 3, 100), (0, 0, 30), (9, 0, 20), (5, 5, 40)])
def test_hits_alone_give_mcnemars_p(lhs_only, rhs_only, n):
    differences = [1.0] * lhs_only + [-1.0] * rhs_only + [0.0] * (n - lhs_only - rhs_only)
    m = lhs_only + rhs_only
    want = binomtest(lhs_only, m).pvalue if m else 1.0
    assert sign_flips(differences, ALONE[:n], seed=0).p_value == pytest.approx(want, rel=1e-12)


def test_drawn_patterns_come_close_and_never_give_0():
    """Oracle: all 2^16 patterns; drawn, p has a standard error of at most 0.005."""
    random = np.random.default_rng(8)
    differences = list(random.normal(0.35, 1.0, 16))
    signs = np.array(list(product((1, -1), repeat=16)))
    sums = signs @ np.array(differences)
    want = (np.abs(sums) >= abs(sum(differences)) - 1e-12).mean()
    got = sign_flips(differences, ALONE[:16], seed=4)
    assert not got.is_exact
    assert got.p_value == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / PATTERNS))
    assert got.p_value == sign_flips(differences, ALONE[:16], seed=4).p_value
    assert got.p_value != sign_flips(differences, ALONE[:16], seed=5).p_value
    far = sign_flips([*random.normal(50.0, 1.0, 40), -0.001], ALONE[:41], seed=4)
    assert far.p_value >= 1 / PATTERNS


def test_differences_of_one_sign_have_an_exact_p():
    differences = [0.1 + 0.37 * math.sqrt(i) for i in range(30)] + [0.0] * 5
    assert sign_flips(differences, ALONE[:35], seed=0).p_value == 2.0**-29
    assert sign_flips([-one for one in differences], ALONE[:35], seed=0).p_value == 2.0**-29


@pytest.mark.parametrize(("differences", "clusters"), SAMPLES[2:])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_interval_holds_what_the_enumerated_test_does_not_reject(differences, clusters, level):
    """Oracle: the two one-sided enumerated tests at each hypothesis of a grid."""
    got = sign_flips(differences, clusters, seed=0).interval(level)
    for tenth in range(-33, 34, 3):
        delta = Fraction(tenth, 31)
        if min(abs(float(delta) - got.low), abs(float(delta) - got.high)) < 1e-9:
            continue
        _, above, below = enumerated(differences, clusters, delta)
        assert (got.low < delta < got.high) == (min(above, below) > (1 - level) / 2 + 1e-12)


def test_too_few_fixtures_bound_nothing():
    got = sign_flips([0.5, 0.25, 0.5], ALONE[:3], seed=0).interval(0.95)
    assert (got.low, got.high) == (-math.inf, math.inf)


def test_the_interval_of_drawn_patterns_covers_the_mean():
    """Simulation: 200 samples of 20 with mean 1; 95 % intervals miss it in about 5 %, seeded."""
    random = np.random.default_rng(1)
    missed = sum(
        sign_flips(list(random.normal(1.0, 2.0, 20)), ALONE[:20], seed=0).interval(0.95).excludes(1.0)
        for _ in range(200)
    )
    assert 2 <= missed <= 18


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flips([], [], 0), "0 differences with 0 clusters"),
        (lambda: sign_flips([1.0], [], 0), "1 differences with 0 clusters"),
        (lambda: sign_flips([math.nan], [""], 0), "finite"),
        (lambda: sign_flips([1.0], [""], 0).interval(95), "level=95"),
    ],
)
def test_impossible_samples_are_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_samples_that_are_tested_together_get_what_each_gets_alone():
    """Oracle: the same function on one sample, which the tests above hold to the definition."""
    draw = np.random.default_rng(3)
    samples = [
        Sample(draw.normal(size=n).tolist(), [f"c{i // size}" if size > 1 else "" for i in range(n)])
        for n, size in ((30, 1), (8, 1), (30, 1), (40, 2), (60, 3), (20, 1))
    ]
    together = sign_flips_of_all([*samples[:3], None, *samples[3:]], 0)
    assert together.pop(3) is None
    for sample, found in zip(samples, together, strict=True):
        alone = sign_flips(*sample, 0)
        assert (found.n, found.n_clusters, found.mean, found.p_value) == pytest.approx(
            (alone.n, alone.n_clusters, alone.mean, alone.p_value), abs=1e-12
        )
        assert found.interval(0.9).low == pytest.approx(alone.interval(0.9).low, abs=1e-12)


def test_a_large_family_draws_small_p_values_again_with_as_many_patterns_as_it_needs():
    """Oracle: all 2^18 sign patterns by a matrix product; the drawn share lies within five standard errors."""
    assert [patterns_for(size, 0.05) for size in (1, 500, 501, 585, 100_001)] == [
        PATTERNS, PATTERNS, 200_400, 234_000, PATTERNS,
    ]  # fmt: skip
    draw = np.random.default_rng(8)
    signs = np.array(list(product((1.0, -1.0), repeat=18)))
    samples = [Sample(draw.normal(mean, 1.0, 18).tolist(), ALONE[:18]) for mean in (0.9, 1.1, 0.2)]
    before = sign_flips_of_all(samples, 0)
    after = sign_flips_of_all(samples, 0, patterns_for(585, 0.05))
    for sample, coarse, fine in zip(samples, before, after, strict=True):
        assert fine.interval(0.95) == coarse.interval(0.95)
        sums = np.abs(signs @ np.array(sample.differences))
        want = float((sums >= sums[0] - 1e-9).mean())
        if want > 0.02:
            assert fine.p_value == coarse.p_value
        else:
            assert fine.p_value != coarse.p_value
            assert abs(fine.p_value - want) < 5 * math.sqrt(want / 234_000)
    clear = Sample([*draw.uniform(0.3, 0.7, 59).tolist(), -0.01], ALONE[:60])
    assert sign_flips_of_all([clear], 0, 234_000)[0].p_value == 1 / 234_000  # only the observed pattern reaches it
