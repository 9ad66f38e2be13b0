"""What a report says of resumes: entries of the matrix, its legend, what qualifies it, how to read it."""

from __future__ import annotations

from vorn.records import REFERENCE
from vorn.report.words import counted, percent
from vorn.snapshots.matrix import Matrix, MatrixRow
from vorn.snapshots.parts import policy_name

MARKS = {"better": "+", "harm": "-", "no harm": "=", "not shown": "?", "baseline": "", "reference": ""}


def entry(row: MatrixRow | None) -> str:
    """For example `0.12 +`; seconds where there is no baseline to compare with; "" for what was not run."""
    if row is None or not row.n_resumes:
        return "" if row is None else "errors"
    if row.ratio is None:
        return f"{row.ttft_s:.2f} s"
    return f"{row.ratio:.2f} {MARKS[row.verdict]}".strip()


def full_entry(row: MatrixRow | None) -> str:
    """The same with the verdict as a word: `0.12 + better`."""
    if row is None or row.ratio is None or row.verdict not in MARKS:
        return entry(row)
    return f"{entry(row)} {row.verdict}"


def beside(row: MatrixRow | None, matrix: Matrix) -> tuple[str, ...]:
    """What stands beside an entry: seconds, and how many times those of the references."""
    if row is None or not row.n_resumes:
        return ()
    seconds = [f"{row.ttft_s:.2f} s"] if row.ratio is not None else []
    references = ((row.over_unlimited, REFERENCE), (row.over_bound, matrix.judgement.bound))
    times = [f"{over:.2f} x {name}" for over, name in references if over is not None and name != policy_name(row)]
    return (*seconds, *times)


def title(matrix: Matrix) -> str:
    """The workloads."""
    return f"Warm resume: {', '.join(matrix.workloads)}"


def lead(matrix: Matrix) -> str:
    """How much was measured, and how."""
    policies = {policy_name(row) for row in matrix.rows if row.pool}
    settings = list(dict.fromkeys(row.setting for row in matrix.rows if row.setting))
    laws = list(dict.fromkeys(row.law for row in matrix.rows if row.law))
    engines = list(dict.fromkeys(row.engine for row in matrix.rows))
    most: dict[str, int] = {}
    for row in matrix.rows:
        most[row.evaluation_id] = max(row.n_resumes, most.get(row.evaluation_id, 0))
    return "; ".join(
        [
            counted(sum(most.values()), "resume"),
            f"{len(policies)} policies and {REFERENCE} on {counted(len(matrix.workloads), 'workload')}",
            f"engine {', '.join(engines)}, times {', '.join(laws) or 'none'}",
            settings[0] if len(settings) == 1 else f"{len(settings)} settings",
        ]
    )


def legend(matrix: Matrix) -> str:
    """What the marks mean."""
    how = matrix.judgement
    rates = " or ".join(map(percent, matrix.rates)) + own_rates(matrix)
    return (
        f"Mean time to the first token over that of {how.baseline} in the same pool. + better and - harm: shown at "
        f"{rates} after Holm over the policies of a workload; harm is a rise beyond "
        f"{percent(how.margin)}; = shown to be no harm; ? nothing shown. Tests flip the signs of whole workload "
        "instances, since conversations of one pool are not independent."
    )


def own_rates(matrix: Matrix) -> str:
    """Which workload was judged at which alpha, where they differ: ` (deep 1 %, wide 20 %)`."""
    if len(matrix.rates) == 1:
        return ""
    named = dict.fromkeys(f"{row.workload} {percent(row.alpha)}" for row in matrix.rows)
    return f" ({', '.join(named)})"


def how_to_read(matrix: Matrix) -> str:
    """The words of the tables."""
    how = matrix.judgement
    alpha = " or ".join(f"{rate:g}" for rate in matrix.rates)
    bound = f" {how.bound} stands beside each cell as what is possible in the same pool." if has_bound(matrix) else ""
    return (
        "A resume continues a conversation whose KV is known up to some token, but whose recurrent state must come "
        "from a snapshot: everything after the deepest usable one (the anchor) is read again (the replay). Token hit "
        f"is the mean over resumes of anchor tokens over prompt tokens. {REFERENCE} is a pool without limit, in which "
        f"nothing is evicted.{bound} Policies are compared on the resumes that both have, as are the ratios to the "
        "references; mean s, max s, replay and token hit of a cell are over all of its own resumes without an error. "
        "Intervals and p come from flipping the signs of the differences of whole workload instances; p(Holm) corrects "
        "p over the policies of a workload in a pool. "
        f"Better: p(Holm) is at most {alpha} and the mean time smaller. Harm: the mean time is shown to rise by "
        f"more than {percent(how.margin)}; no harm: it is shown to rise by less. Fired counts evictions in which what "
        "the policy protects changed the victim; a policy whose protection never fired is its base rule there. Where a "
        "model was run, the largest logit difference is to a cold prefill of the same prompt; a resume beyond the "
        "tolerance, or with another greedy token, is an error."
    )


def has_bound(matrix: Matrix) -> bool:
    """Whether the bound was run anywhere."""
    return any(row.over_bound is not None for row in matrix.rows)


def notes(matrix: Matrix) -> list[str]:
    """What a reader must know: how it was judged, inert policies, errors."""
    inert = [f"{row.cell} on {row.workload}" for row in matrix.rows if row.is_inert]
    failed = [f"{row.cell} on {row.workload} ({row.n_errors})" for row in matrix.rows if row.n_errors]
    lines = [f"the protection never changed a victim, so this is its base rule: {_names(inert)}"] if inert else []
    if any(row.law == "measured" for row in matrix.rows):
        lines.append("times were measured, and hold what else the machine did meanwhile; tokens of replay do not")
    if len(matrix.rates) > 1:
        lines.append(f"each evaluation is judged at the alpha that its runs recorded{own_rates(matrix)}")
    return [*matrix.remarks, *lines] + ([f"resumes with errors, left out: {_names(failed)}"] if failed else [])


def _names(names: list[str]) -> str:
    """The first ones of many, once each."""
    found = list(dict.fromkeys(names))
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
