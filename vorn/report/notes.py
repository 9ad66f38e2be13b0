"""What qualifies a report's conclusions: where its plan comes from, errors, noise, looks, and the ledgers' state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from vorn.records import REFERENCE, Manifest
from vorn.report.grid import MOST_VALUES, axis_values, fits_on_a_map, main_axes
from vorn.report.reports import EvaluationReport, Report
from vorn.report.rows import Effort, Saved, SelectionRow
from vorn.report.words import counted, percent


def qualifications(evaluation: EvaluationReport) -> list[str]:
    """What limits the conclusions of an evaluation, and what it saved by stopping early."""
    lines = list(evaluation.plan_notes)
    if not any(cell.is_reference for cell in evaluation.cells):
        lines.append(f"no cell is {REFERENCE}: nothing says what eviction itself costs")
    if len(evaluation.grades) > 1:
        lines.append(f"graded by several rules ({', '.join(evaluation.grades)}): fixtures pair within a rule only")
    lines += [*_tests(evaluation), *_selection(evaluation), *_noise(evaluation), *_exclusions(evaluation)]
    lines += _grid(evaluation)
    if evaluation.effort:
        lines += _effort(evaluation.effort, len(evaluation.cells))
    if evaluation.saved:
        return lines + _saved(evaluation.saved)
    return lines + looks(evaluation.looks)


def _tests(evaluation: EvaluationReport) -> list[str]:
    """Which comparisons were not tested as plain hits, and why."""
    lines = []
    for test, why in (("sign_flip", "outcomes are fractional"), ("cluster_sign_flip", "fixtures share clusters")):
        count = sum(pair.test == test for pair in evaluation.pairs)
        if count:
            lines.append(f"{why}: {counted(count, 'comparison')} by sign-flip test, on mean outcomes")
    untested = sum(pair.n > 0 and not pair.test for pair in evaluation.pairs)
    if untested:
        lines.append(
            "fixtures share clusters, for which no test here allows looking early: "
            f"{counted(untested, 'comparison')} not tested"
        )
    return lines


def _selection(evaluation: EvaluationReport) -> list[str]:
    groups: dict[str, list[SelectionRow]] = {}
    for row in evaluation.selection:
        groups.setdefault(row.group, []).append(row)
    lines = (
        ["tests are on about half of the fixtures; the others chose the parameters (selection.csv)"] if groups else []
    )
    for group, rows in groups.items():
        chosen = next((row for row in rows if row.chosen), None)
        if chosen is None or chosen.select_mean is None:
            lines.append(f"{group}: nothing chosen, because no fixture has an outcome in all {len(rows)} candidates")
            continue
        there = "no outcome" if chosen.test_mean is None else f"{chosen.test_mean:.0%} of {chosen.n_test}"
        lines.append(
            f"{group}: {chosen.cell} chosen of {len(rows)}, {chosen.select_mean:.0%} of {chosen.n_select} where it was "
            f"chosen, {there} where it is tested"
        )
    return lines


def _noise(evaluation: EvaluationReport) -> list[str]:
    lines = [
        f"noise floor: {row.cell} decoded again in another batch slot changes {row.flips} of {row.n} outcomes, at most "
        f"{percent(round(row.limit, 3))} ({percent(evaluation.plan.level)})"
        for row in evaluation.noise
    ]
    below = sum(pair.is_real and pair.above_noise is False for pair in evaluation.pairs)
    if below:
        lines.append(f"{counted(below, 'real difference')} not above the noise floor, marked where named")
    return lines


def _exclusions(evaluation: EvaluationReport) -> list[str]:
    lines = []
    excluding = [pair for pair in evaluation.pairs if pair.n_excluded]
    if excluding:
        most = max(pair.n_excluded for pair in excluding)
        lines.append(
            f"exclusions: {len(excluding)} of {counted(len(evaluation.pairs), 'comparison')} leave fixtures out that "
            f"lack an outcome in one of the cells, at most {most}; worst_low and worst_high in pairs.csv say how far "
            "they could move the difference"
        )
    for group in evaluation.errors:
        more = f" and {len(group.cells) - 3} more cells" if len(group.cells) > 3 else ""
        where = f"{', '.join(group.cells[:3])}{more}"
        lines.append(f"{counted(group.count, 'error')} in {where} (fixture {group.fixture_id}): {group.message}")
    return lines


def _grid(evaluation: EvaluationReport) -> list[str]:
    rows = main_axes(evaluation.grid)
    if not rows or fits_on_a_map(rows):
        return []
    named = zip((rows[0].down, rows[0].across), axis_values(rows), strict=True)
    many = " and ".join(f"{len(values)} values of {name}" for name, values in named if len(values) > MOST_VALUES)
    return [f"no heat map: {many}, and a map has room for {MOST_VALUES}; grid.csv has every place"]


def _effort(effort: Effort, cells: int) -> list[str]:
    """Where memory ran short, and what the panel cost, if a price is known."""
    lines = []
    if effort.retried:
        lines.append(
            f"memory: {counted(effort.retried, 'fixture')} ran out of it and {_were(effort.retried)} measured again "
            "with smaller batches or chunks (fixture_run in the ledger says with which)"
        )
    if effort.near_misses:
        lines.append(
            f"memory: {counted(effort.near_misses, 'fixture')} nearly ran out of it, "
            f"{(effort.reserved_bytes or 0) / 2**30:.1f} GiB reserved at most; longer prompts may not fit"
        )
    if effort.cost is not None:
        cost = format(effort.cost, ".2f" if effort.cost >= 0.01 else ".2g")
        price = f"{effort.price_per_hour:g}{' (the latest of several prices)' if effort.has_several_prices else ''}"
        lines.append(
            f"panel cost: {cost}, for {effort.seconds / 3600:.3g} process hours at {price}, of "
            f"{counted(cells, 'cell')} together: they share their prefills, so that none has a cost of its own"
        )
    return lines


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _saved(saved: Saved) -> list[str]:
    """What stopping early saved, as compute; that a cell is merely unfinished is said too."""
    if saved.planned is None:
        return ["how many fixtures were planned is not recorded: what stopping early saved is unknown"]
    lines = []
    if saved.stopped:
        ends = [done for _, done in saved.stopped]
        span = f"{min(ends)}" if min(ends) == max(ends) else f"{min(ends)} to {max(ends)}"
        lines.append(
            f"stopped early: {counted(len(saved.stopped), 'cell')} settled after {span} of {saved.planned} fixtures; "
            f"saved {counted(saved.rows, 'decoded row')} and {counted(saved.prefills, 'prefill')}"
        )
    if saved.unfinished:
        names = ", ".join(saved.unfinished[:3])
        more = f" and {len(saved.unfinished) - 3} more" if len(saved.unfinished) > 3 else ""
        lines.append(f"unfinished, not settled: {names}{more}; the same command continues")
    return lines


def looks(sizes: Sequence[int]) -> list[str]:
    """One line per look after the first, if the results were looked at before."""
    return [
        f"look {number}: {before} -> {now} fixtures; the p-values are not corrected for the earlier "
        f"look{'s' if number > 2 else ''}"
        for number, (before, now) in enumerate(pairwise(sizes), start=2)
    ]


def ledger_state(report: Report) -> list[str]:
    """Duplicates, disagreements and damaged lines of the ledgers; empty if there are none."""
    lines = []
    if report.duplicates:
        lines.append(
            f"{counted(report.duplicates, 'duplicate observation')} left out: the first of a cell and fixture counts, "
            "an outcome before an error"
        )
    for one in report.disagreements:
        lines.append(
            f"disagreement on {one.field}, fixture {one.fixture_id} in {one.cell}: {one.kept!r} first, then "
            f"{one.dropped!r}; the first counts"
        )
    for damaged in report.damaged:
        kind = "torn tail (a writer was killed; a rerun measures what was lost)" if damaged.is_tail else "damaged line"
        lines.append(f"{kind}: {damaged.path}, line {damaged.line}")
    return lines


def provenance(evaluation: EvaluationReport) -> list[tuple[str, str]]:
    """Name and value of what the manifests record; several values where segments were written under different ones."""
    facts: list[tuple[str, Callable[[Manifest], str]]] = [
        ("seed", lambda one: str(one.config["seed"]) if "seed" in one.config else "not recorded"),
        ("dtype", lambda one: one.dtype),
        ("device", lambda one: one.device),
        ("git revision", lambda one: one.git_revision or "not recorded"),
        ("versions", lambda one: ", ".join(f"{name} {version}" for name, version in sorted(one.versions.items()))),
    ]
    if not evaluation.manifests:
        return [("manifest", "none can be read")]
    table = [(name, list(dict.fromkeys(read(one) for one in evaluation.manifests))) for name, read in facts]
    return [(name, " / ".join(values) + (" (segments differ)" if len(values) > 1 else "")) for name, values in table]
