"""Confidence sequences against integrals over bets, and their coverage under continuous looking."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, binom

from vorn.records import BadInput
from vorn.stats import difference_sequence, log_e_value, rate_sequence

ALPHA = 0.05
COUNTS = [(0, 0, 1), (1, 0, 1), (0, 0, 30), (3, 9, 40), (12, 0, 12), (25, 10, 35), (8, 6, 90)]


def betting_e(delta: float, lhs_only: int, rhs_only: int, n: int) -> float:
    """Oracle: the product of the bets, integrated numerically over the range in which every factor is nonnegative."""
    low, high = -1 / (1 - delta), 1 / (1 + delta)

    def wealth(u: float) -> float:
        bet = low + (high - low) * u
        up, down, same = 1 + bet * (1 - delta), 1 - bet * (1 + delta), 1 - bet * delta
        return up**lhs_only * down**rhs_only * same ** (n - lhs_only - rhs_only) * beta.pdf(u, 0.5, 0.5)

    return sum(quad(wealth, start, start + 0.25, limit=200)[0] for start in (0, 0.25, 0.5, 0.75))


@pytest.mark.parametrize(("lhs_only", "rhs_only", "n"), COUNTS)
def test_the_limits_of_a_difference_are_where_the_bets_win_twentyfold(lhs_only, rhs_only, n):
    interval = difference_sequence(lhs_only, rhs_only, n, ALPHA)
    estimate = (lhs_only - rhs_only) / n
    assert -1.0 <= interval.low <= estimate <= interval.high <= 1.0
    for limit in (interval.low, interval.high):
        if abs(limit) < 1.0:
            assert betting_e(limit, lhs_only, rhs_only, n) == pytest.approx(1 / ALPHA, rel=1e-4)
        else:
            assert limit == estimate  # nothing lies beyond
    # an interval: within it E stays below 1 / alpha, beyond it stays above
    for delta in np.linspace(-0.98, 0.98, 8):
        if min(abs(delta - interval.low), abs(delta - interval.high)) > 1e-6:
            inside = interval.low <= delta <= interval.high
            assert (betting_e(float(delta), lhs_only, rhs_only, n) < 1 / ALPHA) == inside


def test_the_interval_excludes_0_exactly_when_the_e_value_rejects():
    for lhs_only in range(0, 16, 3):
        for rhs_only in range(10):
            for n in (lhs_only + rhs_only + 1, 60):
                interval = difference_sequence(lhs_only, rhs_only, n, ALPHA)
                assert interval.excludes(0.0) == (log_e_value(lhs_only, rhs_only) >= math.log(1 / ALPHA))


def test_swapping_the_cells_mirrors_the_interval():
    one, other = difference_sequence(9, 3, 40, ALPHA), difference_sequence(3, 9, 40, ALPHA)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-8)


def test_a_true_difference_is_rarely_excluded_at_any_look():
    """Exact: P(lhs only) = 0.5, P(rhs only) = 0.1; the probability of ever leaving the sequence within 18 fixtures."""
    alive = {(0, 0): 1.0}
    for n in range(1, 19):
        moved: dict[tuple[int, int], float] = {}
        for (lhs_only, rhs_only), mass in alive.items():
            for step, chance in (((1, 0), 0.5), ((0, 1), 0.1), ((0, 0), 0.4)):
                key = lhs_only + step[0], rhs_only + step[1]
                moved[key] = moved.get(key, 0.0) + mass * chance
        alive = {key: mass for key, mass in moved.items() if not difference_sequence(*key, n, ALPHA).excludes(0.4)}
    assert 0.95 <= sum(alive.values()) < 1.0


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_a_true_rate_is_rarely_excluded_at_any_look(rate):
    """Exact: the probability of ever leaving the sequence within 60 fixtures, fixture by fixture."""
    alive = {0: 1.0}
    for n in range(1, 61):
        moved: dict[int, float] = {}
        for hits, mass in alive.items():
            moved[hits] = moved.get(hits, 0.0) + mass * (1 - rate)
            moved[hits + 1] = moved.get(hits + 1, 0.0) + mass * rate
        alive = {hits: mass for hits, mass in moved.items() if not rate_sequence(hits, n, ALPHA).excludes(rate)}
    assert 0.95 <= sum(alive.values()) < 1.0


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (13, 40)])
def test_the_limits_of_a_rate_are_where_the_mixture_wins_twentyfold(hits, n):
    """Oracle: the binomial probability mixed over Beta(1/2, 1/2) by integration, against that at the limit."""
    halves = ((0, 0.5), (0.5, 1))
    mixed = sum(quad(lambda u: binom.pmf(hits, n, u) * beta.pdf(u, 0.5, 0.5), *half)[0] for half in halves)
    interval = rate_sequence(hits, n, ALPHA)
    assert interval.low <= hits / n <= interval.high
    assert (interval.low == 0.0, interval.high == 1.0) == (hits == 0, hits == n)
    for limit in {interval.low, interval.high} - {0.0, 1.0}:
        assert mixed / binom.pmf(hits, n, limit) == pytest.approx(1 / ALPHA, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: difference_sequence(0, 0, 0, ALPHA), "n=0"),
        (lambda: difference_sequence(3, 2, 4, ALPHA), "n=4 with 5"),
        (lambda: rate_sequence(2, 1, ALPHA), "n=1 with 2"),
        (lambda: rate_sequence(1, 1, 1.0), r"alpha=1\.0"),
        (lambda: rate_sequence(-1, 1, ALPHA), "hits=-1"),
    ],
)
def test_impossible_counts_are_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_a_sequence_of_graded_outcomes_covers_their_mean_at_every_fixture():
    """Oracle: simulation; the mean may never leave the sequence in more than ALPHA of the runs."""
    draws = np.random.default_rng(7).choice([0.0, 0.5, 1.0], p=[0.2, 0.2, 0.6], size=(150, 60))  # mean 0.7
    left = 0
    for run in draws.cumsum(axis=1):
        intervals = [rate_sequence(float(total), n, ALPHA) for n, total in enumerate(run, start=1) if n % 5 == 0]
        left += any(interval.excludes(0.7) for interval in intervals)
    assert left <= ALPHA * len(draws)
    one = rate_sequence(31.5, 50, ALPHA)
    for limit in (one.low, one.high):
        won = quad(
            lambda p, q=limit: ((p / q) ** 0.63 * ((1 - p) / (1 - q)) ** 0.37) ** 50 * beta.pdf(p, 0.5, 0.5), 0, 1
        )
        assert won[0] == pytest.approx(1 / ALPHA, rel=1e-4)
