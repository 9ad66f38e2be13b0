"""The tables on resumes as text: the same in report.md, in matrix.md and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vorn.records import REFERENCE
from vorn.report.reports import EvaluationReport
from vorn.report.resumes.words import entry, has_bound
from vorn.report.rows import PairRow
from vorn.report.tables import Table
from vorn.report.words import percent, points
from vorn.snapshots.matrix import Matrix, MatrixRow
from vorn.snapshots.parts import Part, law_name, unnamed
from vorn.snapshots.sensitivity import Share, shares

CELLS = "Cells"
HITS = f"Token hit against {REFERENCE}"
SHARES = "Share of settings in which a policy wins"


def resume_tables(matrix: Matrix, evaluations: Sequence[EvaluationReport]) -> Iterator[Table]:
    """All but the matrix itself: cells, tests, token hits, and what hangs on the setting if there are several."""
    found = shares(matrix)
    if any(one.settings > 1 for one in found):
        yield share_table(found, matrix)
    yield cell_table(matrix)
    if any(row.ratio is not None and row.verdict != "baseline" for row in matrix.rows):
        yield comparison_table(matrix)
    if pairs := [pair for one in evaluations for pair in one.family("vs_full")]:
        yield _hit_table(pairs, matrix)


def grid(part: Part) -> Table:
    """Policies by workloads."""
    header = ("policy", *(", ".join(filter(None, (one, part.pool(one)))) for one in part.workloads))
    rows = [(policy, *(entry(part.row(policy, one)) for one in part.workloads)) for policy in part.policies]
    return Table(part.title, header, tuple(rows))


def cell_table(matrix: Matrix) -> Table:
    """What each cell did on each workload."""
    settings = _settings(matrix)
    bound = matrix.judgement.bound if has_bound(matrix) else ""
    failed = any(row.n_errors for row in matrix.rows)
    header = (
        *_where_header(settings), "resumes", *(["errors"] if failed else []), "mean s", "max s", f"over {REFERENCE}",
        *([f"over {bound}"] if bound else []), "replay tokens", "token hit", "KV without state", "evictions", "fired",
        *(["largest logit difference"] if _has_model(matrix) else []),
    )  # fmt: skip
    rows = [(*_where(row, settings), *_cell(row, bool(bound), failed)) for row in matrix.rows]
    if _has_model(matrix):
        exact = ["" if row.logit_difference is None else f"{row.logit_difference:.1e}" for row in matrix.rows]
        rows = [(*row, one) for row, one in zip(rows, exact, strict=True)]
    return Table(CELLS, header, tuple(rows))


def comparison_table(matrix: Matrix) -> Table:
    """What the verdicts follow from."""
    how, settings = matrix.judgement, _settings(matrix)
    header = (
        *_where_header(settings), "instances", "ratio", "difference s", _level(matrix.rates), "p", "p(Holm)",
        "p(Holm) no harm", "p(Holm) harm", "verdict",
    )  # fmt: skip
    rows = [row for row in matrix.rows if row.verdict not in ("baseline", "reference")]
    title = f"Time to the first token against {how.baseline}"
    several = len(matrix.rates) > 1
    return Table(title, header, tuple((*_where(row, settings), *_test(row, several)) for row in rows))


def share_table(found: Sequence[Share], matrix: Matrix) -> Table:
    """How often each policy wins over the settings, and how its ratio varies."""
    header = ("workload", "policy", "settings", "better", "harm", "least ratio", "median", "most")
    rows = [
        (
            one.workload, one.policy, str(one.settings), str(one.better), str(one.harm), f"{one.least:.2f}",
            f"{one.median:.2f}", f"{one.most:.2f}",
        )
        for one in found
    ]  # fmt: skip
    note = (
        f"In how many settings (sizes, placement, pool, order of removal) a policy is shown to be better than "
        f"{matrix.judgement.baseline}, in how many to do harm, and the ratio of mean times over them."
    )
    return Table(SHARES, header, tuple(rows), (note,))


def _has_model(matrix: Matrix) -> bool:
    return any(row.logit_difference is not None for row in matrix.rows)


def _settings(matrix: Matrix) -> dict[str, str]:
    """The setting of each cell by its id, where there are several; a reference has that of its evaluation. Else {}."""
    laws = {row.law for row in matrix.rows if row.law}
    alike = unnamed(matrix)
    if len(laws) < 2 and len({(row.setting, row.engine) for row in matrix.rows if row.pool}) < 2 and not alike:
        return {}
    own: dict[str, dict[str, None]] = {}
    for row in matrix.rows:
        own.setdefault(row.evaluation_id, {}).update({row.setting: None} if row.setting else {})
    names = {law: law_name(law, matrix) for law in {row.law for row in matrix.rows}}
    return {
        row.cell_id: ", ".join(
            [
                row.setting or "; ".join(own[row.evaluation_id]),
                *([names[row.law]] if len(laws) > 1 else []),
                *([f"evaluation {row.evaluation_id}"] if row.evaluation_id in alike else []),
            ]
        )
        for row in matrix.rows
    }


def _where_header(settings: Mapping[str, str]) -> tuple[str, ...]:
    return ("workload", "cell", *(["setting"] if settings else []))


def _where(row: MatrixRow, settings: Mapping[str, str]) -> tuple[str, ...]:
    return (row.workload, row.cell, *([settings[row.cell_id]] if settings else []))


def _cell(row: MatrixRow, bounded: bool, failed: bool) -> tuple[str, ...]:
    counts = (str(row.n_resumes), *([str(row.n_errors or "")] if failed else []))
    if not row.n_resumes:
        return (*counts, *[""] * (8 + bounded))
    over = (row.over_unlimited, *([row.over_bound] if bounded else []))
    return (
        *counts,
        f"{row.ttft_s:.3g}",
        f"{row.ttft_max_s:.3g}",
        *("" if one is None else f"{one:.2f}" for one in over),
        f"{row.replay_tokens:.0f}",
        f"{row.token_hit:.1%}",
        str(row.kv_without_state),
        str(row.evictions),
        "" if row.protection_fired is None else str(row.protection_fired),
    )


def _level(rates: Sequence[float]) -> str:
    """The head of a column of intervals: their level, if they have one; else each names its own."""
    return percent(1 - rates[0]) if len(rates) == 1 else "interval"


def _own(alpha: float, several: bool) -> str:
    """What stands before an interval where there are several levels."""
    return f"{percent(1 - alpha)}: " if several else ""


def _test(row: MatrixRow, several: bool) -> tuple[str, ...]:
    if row.ratio is None:
        return (str(row.n_instances), *[""] * 7, "not tested")
    ps = (row.p_value, row.p_holm, row.p_harmless_holm, row.p_harm_holm)
    return (
        str(row.n_instances),
        f"{row.ratio:.3f}",
        f"{row.difference_s:+.3f}",
        f"{_own(row.alpha, several)}{row.difference_low_s:.3f} to {row.difference_high_s:.3f}",
        *("" if p is None else f"{p:.2g}" for p in ps),
        row.verdict,
    )


def _hit_table(pairs: Sequence[PairRow], matrix: Matrix) -> Table:
    """Mean token hits, tested as other outcomes are; whole workload instances are flipped here too."""
    rows, settings = {row.cell_id: row for row in matrix.rows}, _settings(matrix)
    rates = sorted({pair.alpha for pair in pairs})
    header = (*_where_header(settings), "resumes", "points", _level(rates), "p", "p(Holm)", "real")
    return Table(
        HITS, header, tuple((*_where(rows[pair.lhs_id], settings), *_hit(pair, len(rates) > 1)) for pair in pairs)
    )


def _hit(pair: PairRow, several: bool) -> tuple[str, ...]:
    if pair.difference is None or pair.p_value is None or pair.p_holm is None:
        return (str(pair.n), *[""] * 4, "not tested")
    return (
        str(pair.n),
        points(pair.difference, pair.n, signed=True),
        _range(pair, several),
        f"{pair.p_value:.2g}",
        f"{pair.p_holm:.2g}",
        "yes" if pair.is_real else "not shown",
    )


def _range(pair: PairRow, several: bool) -> str:
    if pair.difference_low is None or pair.difference_high is None:
        return ""
    own = _own(pair.alpha, several)
    return f"{own}{points(pair.difference_low, pair.n)} to {points(pair.difference_high, pair.n)}"
