"""The verdicts on snapshot policies in sentences, a workload at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vorn.report.summaries import FamilySummary
from vorn.report.words import counted, percent, probability
from vorn.snapshots.matrix import VERDICTS, Judgement, MatrixRow
from vorn.snapshots.parts import Part


def verdicts(part: Part) -> list[FamilySummary]:
    """One per workload with policies beside its baseline, in the order of the columns."""
    families = {workload: part.family(workload) for workload in part.workloads}
    return [_summary(part, workload, rows) for workload, rows in families.items() if rows]


def out_of_reach(part: Part) -> list[str]:
    """Where so few instances were drawn that no policy can be shown to be better, each sentence once."""
    found: dict[str, list[str]] = {}
    for workload in part.workloads:
        tested = [row for row in part.family(workload) if row.ratio is not None]
        for text in _reach(tested):
            found.setdefault(text, []).append(workload)
    return [f"{', '.join(workloads)}: {text}" for text, workloads in found.items()]


def _summary(part: Part, workload: str, rows: Sequence[MatrixRow]) -> FamilySummary:
    how = part.matrix.judgement
    tested = [row for row in rows if row.ratio is not None]
    by_verdict = {name: [row for row in tested if row.verdict == name] for name in VERDICTS}
    counts = ", ".join(f"{len(found)} {name}" for name, found in by_verdict.items())
    real = sorted([*by_verdict["better"], *by_verdict["harm"]], key=lambda row: -_strength(row))
    return FamilySummary(
        title=", ".join(filter(None, (workload, part.pool(workload), part.title))),
        headline=f"{len(tested)} policies against {how.baseline}: {counts}",
        real_label="shown at " + percent(rows[0].alpha) + ", largest effect first" if real else "",
        real=tuple(_sentence(row, how) for row in real),
        not_shown_label=f"nothing shown ({len(by_verdict['not shown'])})" if by_verdict["not shown"] else "",
        not_shown=tuple(f"{row.cell} {_effect(row)}" for row in by_verdict["not shown"]),
        not_tested=tuple(row.cell for row in rows if row.ratio is None),
        is_compact=False,
        claims=(*_harmless(by_verdict["no harm"], how), *_reach(tested)),
        table="matrix.csv",
    )


def _sentence(row: MatrixRow, how: Judgement) -> str:
    p = row.p_holm if row.verdict == "better" else row.p_harm_holm
    word = "is better than" if row.verdict == "better" else "does harm against"
    return f"{row.cell} {word} {how.baseline}: {_effect(row)}, p(Holm) {probability(1.0 if p is None else p)}"


def _effect(row: MatrixRow) -> str:
    """`0.12 times the mean time, -7.84 s [-9.74 to -6.01]`."""
    difference = f"{row.difference_s:+.2f} s [{row.difference_low_s:.2f} to {row.difference_high_s:.2f}]"
    return f"{row.ratio:.2f} times the mean time, {difference}"


def _strength(row: MatrixRow) -> float:
    return abs(math.log(row.ratio)) if row.ratio else math.inf


def _harmless(rows: Sequence[MatrixRow], how: Judgement) -> list[str]:
    if not rows:
        return []
    names = ", ".join(f"{row.cell} ({row.ratio:.2f})" for row in rows)
    return [f"shown to be no harm, a rise of less than {percent(how.margin)}: {names}"]


def _reach(tested: Sequence[MatrixRow]) -> list[str]:
    """Says so where so few instances can show nothing: all signs alike have a p of 2 / 2^instances."""
    instances = max((row.n_instances for row in tested), default=0)
    least = len(tested) * 2 / 2**instances
    if not tested or least <= tested[0].alpha:
        return []
    needed = math.ceil(math.log2(2 * len(tested) / tested[0].alpha))
    return [
        f"{counted(instances, 'instance')} of a workload cannot show a policy to be better among {len(tested)}: no "
        f"p(Holm) is below {min(1.0, least):.2g}; {needed} instances can (workload.seeds={needed}; a trace is one "
        "instance)"
    ]
