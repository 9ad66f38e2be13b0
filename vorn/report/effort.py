"""What measuring an evaluation took: time, its price, and where memory ran short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vorn.records import FixtureRun, Manifest, Observation
from vorn.report.rows import Effort


def effort(observations: Iterable[Observation], manifests: Sequence[Manifest]) -> Effort | None:
    """Of these observations, each time a fixture was measured counted once; None where no ledger says.

    Args:
        observations: of one evaluation.
        manifests: of its segments, by time; the latest price counts.
    """
    runs: dict[tuple[str, float], FixtureRun] = {}
    for seen in observations:
        if seen.fixture_run is not None:
            # Cells that were added later were measured in a run of their own, which took a time of its own.
            key = seen.fixture_id, seen.fixture_run.wall_s
            if key not in runs or runs[key].retries < seen.fixture_run.retries:
                runs[key] = seen.fixture_run
    if not runs:
        return None
    reserved = [one.reserved_bytes for one in runs.values() if one.reserved_bytes is not None]
    prices = [price for one in manifests if (price := one.config.get("price_per_hour")) is not None]
    return Effort(
        runs=len(runs),
        seconds=sum(one.wall_s for one in runs.values()),
        retried=sum(one.retries > 0 for one in runs.values()),
        near_misses=sum(one.is_near_miss is True for one in runs.values()),
        reserved_bytes=max(reserved, default=None),
        price_per_hour=float(prices[-1]) if prices else None,
        has_several_prices=len(set(prices)) > 1,
    )
