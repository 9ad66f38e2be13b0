"""What a report says in words: which differences are real, which were not shown, and what qualifies them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vorn.records import REFERENCE, Manifest
from vorn.report.rows import ALPHA, FAMILIES, EvaluationReport, PairRow, Report
from vorn.stats import smallest_discordant

TITLES = {
    "vs_full": f"Against {REFERENCE}",
    "policies": "Policies against each other, same unit, guards, budget and contract",
    "units": "Units against each other, same policy, guards, budget and contract",
}
HOW_TO_READ = (
    "A hit is an outcome of exactly 1. Two cells are compared on the fixtures with an outcome in both. p is the exact "
    "two-sided McNemar test; p(Holm) corrects it within its family and decides what is called real, at 5 %. Intervals "
    "of hit rates are Wilson's, intervals of paired differences are Tango's, both 95 % and not corrected. A difference "
    "that is not shown may still exist: its interval says how large it could be."
)
CONTRADICTION = (
    "* The interval and the exact p, both uncorrected, disagree on whether 0 is possible; the verdict follows p(Holm)."
)


@dataclass(frozen=True, slots=True)
class FamilySummary:
    """One family in words; everything with the largest effect first."""

    title: str
    headline: str  # how many comparisons, how many real
    real_label: str  # what to write above `real`; "" if there are none
    real: tuple[str, ...]
    not_shown_label: str
    not_shown: tuple[str, ...]
    not_tested: tuple[str, ...]  # cells without common fixtures
    is_compact: bool  # whether `real` holds the fewest words instead of sentences


def summaries(evaluation: EvaluationReport) -> list[FamilySummary]:
    """The families that have comparisons, in the order of `FAMILIES`."""
    return [_summary(name, pairs) for name in FAMILIES if (pairs := evaluation.family(name))]


def heading(evaluation: EvaluationReport, report: Report) -> str:
    """`model, task`, with the evaluation's id where another evaluation has the same two."""
    same = [one for one in report.evaluations if (one.model, one.task) == (evaluation.model, evaluation.task)]
    suffix = f" (evaluation {evaluation.evaluation_id})" if len(same) > 1 else ""
    return f"{evaluation.model}, {evaluation.task}{suffix}"


def sentence(pair: PairRow) -> str:
    """A tested comparison that is real, as a sentence, the better cell first."""
    sign = -1 if pair.lhs_only < pair.rhs_only else 1
    winner, loser = (pair.lhs, pair.rhs)[::sign]
    more, fewer = (pair.both + pair.lhs_only, pair.both + pair.rhs_only)[::sign]
    counts = f"{more} of {pair.n} against {fewer} of {pair.n}"
    p_holm = "" if pair.p_holm is None else f", p(Holm) {probability(pair.p_holm)}"
    return f"{winner} beats {loser}: {counts}, {_effect(pair, sign, ' points')}{p_holm}{_marks(pair)}"


def short(pair: PairRow) -> str:
    """A tested comparison in the fewest words: the cells (the reference goes without saying) and the effect."""
    against = "" if pair.family == "vs_full" else f" against {pair.rhs}"
    return f"{pair.lhs}{against} {_effect(pair, 1, '')}{_marks(pair)}"


def qualifications(evaluation: EvaluationReport) -> list[str]:
    """What limits the conclusions of an evaluation: missing reference, exclusions, errors, several looks or grades."""
    lines = []
    if not any(cell.is_reference for cell in evaluation.cells):
        lines.append(f"no cell is {REFERENCE}: nothing says what eviction itself costs")
    if len(evaluation.grades) > 1:
        lines.append(f"graded by several rules ({', '.join(evaluation.grades)}): fixtures pair within a rule only")
    excluding = [pair for pair in evaluation.pairs if pair.n_excluded]
    if excluding:
        most = max(pair.n_excluded for pair in excluding)
        lines.append(
            f"exclusions: {len(excluding)} of {counted(len(evaluation.pairs), 'comparison')} leave fixtures out that "
            f"lack an outcome in one of the cells, at most {most}; worst_low and worst_high in pairs.csv say how far "
            "they could move the difference"
        )
    for group in evaluation.errors:
        where = (
            f"{', '.join(group.cells[:3])}{f' and {len(group.cells) - 3} more cells' if len(group.cells) > 3 else ''}"
        )
        lines.append(f"{counted(group.count, 'error')} in {where} (fixture {group.fixture_id}): {group.message}")
    return lines + looks(evaluation.looks)


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


def counted(n: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def points(difference: float, n: int, *, signed: bool = False) -> str:
    """A difference of rates in percentage points, with a decimal where that many fixtures resolve it."""
    text = f"{100 * difference:{'+' if signed else ''}.{0 if n <= 200 else 1}f}"
    return "0" if float(text) == 0 else text


def probability(p: float) -> str:
    """`= 0.0312`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3g}"


def _summary(family: str, pairs: Sequence[PairRow]) -> FamilySummary:
    tested = [pair for pair in pairs if pair.p_holm is not None]
    real = _strongest(pair for pair in tested if pair.is_real)
    not_shown = _strongest(pair for pair in tested if not pair.is_real)
    compact = family == "vs_full"
    real_label = f"real differences from {REFERENCE}, in points" if compact else "real, largest effect first"
    least = smallest_discordant(ALPHA, max(1, len(tested)))
    not_shown_label = (
        f"not shown to differ ({len(not_shown)}), in points; among {counted(len(tested), 'comparison')} it takes at "
        f"least {least} discordant fixtures, all on one side, to pass Holm's first step"
    )
    return FamilySummary(
        title=TITLES[family],
        headline=f"{counted(len(tested), 'comparison')}, {len(real)} real after Holm at {100 * ALPHA:g} %",
        real_label=real_label if real else "",
        real=tuple(short(pair) if compact else sentence(pair) for pair in real),
        not_shown_label=not_shown_label if not_shown else "",
        not_shown=tuple(map(short, not_shown)),
        not_tested=tuple(f"{pair.lhs} and {pair.rhs}" for pair in pairs if pair.p_holm is None),
        is_compact=compact,
    )


def _effect(pair: PairRow, sign: int, unit: str) -> str:
    """`+57 points [45 to 67]`, seen from lhs if `sign` is 1 and from rhs if it is -1."""
    if pair.difference is None or pair.difference_low is None or pair.difference_high is None:
        return "no common fixture"
    low, high = sorted((sign * pair.difference_low, sign * pair.difference_high))
    effect = points(sign * pair.difference, pair.n, signed=True)
    return f"{effect}{unit} [{points(low, pair.n)} to {points(high, pair.n)}]"


def _marks(pair: PairRow) -> str:
    excluded = ""
    if pair.n_excluded:
        undone = pair.is_real and pair.worst_low <= 0.0 <= pair.worst_high
        excluded = f" ({pair.n_excluded} excluded{', which could undo it' if undone else ''})"
    return ("*" if pair.is_contradictory else "") + excluded


def _strongest(pairs: Iterable[PairRow]) -> list[PairRow]:
    return sorted(pairs, key=lambda pair: -abs(pair.difference or 0.0))
