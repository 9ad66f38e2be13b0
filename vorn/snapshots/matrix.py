"""The product of a campaign: policy x workload, each cell against the named baseline and beside the references."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vorn.records import REFERENCE, BadInput, Observation, Resume
from vorn.stats import holm
from vorn.stats.signflip import SignFlips, sign_flips

VERDICTS = ("better", "no harm", "harm", "not shown")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """One cell on one workload; the fields are the columns of matrix.csv.

    Differences and ratios are to the baseline in the same pool, on the resumes that both have. None for the baseline
    itself, for the reference, and where the baseline was not run.
    """

    evaluation_id: str
    workload: str
    engine: str
    law: str  # where times come from: the cost law, or "measured"; "" if no resume has an outcome
    setting: str  # placement and order of removal
    cell_id: str
    cell: str
    policy: str
    pool: str  # "16 slots"; "" for the reference
    n_resumes: int
    n_instances: int
    n_errors: int
    ttft_s: float  # mean
    ttft_max_s: float
    replay_tokens: float  # mean
    token_hit: float  # mean of the resumes' anchor tokens over prompt tokens: what pairs.csv tests
    pooled_token_hit: float  # all anchor tokens over all prompt tokens: long prompts count more
    kv_without_state: int  # resumes that matched something and found no state
    evictions: int
    protection_fired: int | None  # evictions whose victim the policy's protection changed
    logit_difference: float | None  # largest to a cold prefill, without the errors; None where no model was run
    over_unlimited: float | None  # mean time over that of the unlimited pool, on the resumes that both have
    over_bound: float | None  # the same over the bound, a policy that knows the future, in the same pool
    ratio: float | None  # mean time over the baseline's
    difference_s: float | None  # mean time minus the baseline's
    difference_low_s: float | None  # interval by sign flips of whole instances
    difference_high_s: float | None
    p_value: float | None  # two-sided, of no difference
    p_holm: float | None  # within the family: all policies on this workload in this pool
    p_harmless_holm: float | None  # one-sided, of "the mean time rises by the margin or more"
    p_harm_holm: float | None  # one-sided, of "it rises by the margin at most"
    alpha: float  # family-wise error rate at which it was judged; the interval has level 1 - alpha
    verdict: str  # one of VERDICTS, "baseline", "reference"

    @property
    def is_inert(self) -> bool:
        """Whether a protecting policy never protected anything, though there was something to evict."""
        return self.protection_fired == 0 and self.evictions > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a matrix is judged.

    Attributes:
        baseline: policy that every other is compared with.
        bound: policy whose mean time stands beside each cell as what is possible; "" for none.
        margin: rise of the mean time that is no harm, as a share of the baseline's.
        alpha: family-wise error rate, one for all or by evaluation id.
        seed: of drawn sign patterns.
    """

    baseline: str
    bound: str
    margin: float
    alpha: float | Mapping[str, float]
    seed: int

    def rate(self, evaluation_id: str) -> float:
        """Alpha of an evaluation."""
        return self.alpha if isinstance(self.alpha, float) else self.alpha[evaluation_id]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The rows by workload, the reference and the baseline first, and how they were judged."""

    rows: tuple[MatrixRow, ...]
    judgement: Judgement
    remarks: tuple[str, ...] = ()  # what a reader must know of how it was judged

    @property
    def workloads(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.workload for row in self.rows))

    @property
    def rates(self) -> list[float]:
        """Every alpha at which an evaluation was judged, the least first."""
        return sorted({row.alpha for row in self.rows})


@dataclass(frozen=True)
class _Tests:
    difference: SignFlips
    shifted: SignFlips  # of time - (1 + margin) * the baseline's time
    ratio: float


def build_matrix(observations: Sequence[Observation], judgement: Judgement) -> Matrix:
    """The matrix of what ledgers hold of the second domain; other observations are left out.

    Raises: BadInput if there is no resume among them.
    """
    groups: dict[str, dict[str, list[Observation]]] = {}
    for seen in observations:
        if seen.is_resume:
            groups.setdefault(seen.evaluation_id, {}).setdefault(seen.cell_id, []).append(seen)
    if not groups:
        raise BadInput("the ledgers hold 0 resumes: a matrix needs at least 1; run experiment=warm_resume first")
    return Matrix(tuple(row for cells in groups.values() for row in _rows(cells, judgement)), judgement)


def _rows(cells: Mapping[str, Sequence[Observation]], how: Judgement) -> Iterator[MatrixRow]:
    unlimited = next((group for group in cells.values() if group[0].policy == REFERENCE), None)
    families: dict[tuple[str, str, str], list[Sequence[Observation]]] = {}
    for group in cells.values():
        if group[0].policy != REFERENCE:
            families.setdefault((group[0].unit, group[0].budget, group[0].contract), []).append(group)
    if unlimited:
        yield dataclasses.replace(_row(unlimited, unlimited, None, how), verdict="reference")
    for family in families.values():
        base = next((group for group in family if group[0].policy == how.baseline), None)
        bound = next((group for group in family if group[0].policy == how.bound), None)
        others = [group for group in family if group is not base]
        if base is not None:
            yield dataclasses.replace(_row(base, unlimited, bound, how), ratio=1.0, verdict="baseline")
        tests = [_tests(group, base, how.margin, how.seed) if base else None for group in others]
        yield from _judged([_row(group, unlimited, bound, how) for group in others], tests)


def _row(
    group: Sequence[Observation],
    unlimited: Sequence[Observation] | None,
    bound: Sequence[Observation] | None,
    how: Judgement,
) -> MatrixRow:
    """The description without the comparison."""
    first = group[0]
    done = [(seen, seen.resume) for seen in group if seen.outcome is not None and seen.resume is not None]
    found = [resume for _, resume in done]
    times = [resume.ttft_s for resume in found]
    fired = [resume.protection_fired for resume in found if resume.protection_fired is not None]
    prompts = sum(seen.prompt_tokens or 0 for seen, _ in done)
    return MatrixRow(
        evaluation_id=first.evaluation_id,
        workload=first.task,
        engine=first.model,
        law=next((resume.ttft_law for resume in found), ""),
        setting=first.contract,
        cell_id=first.cell_id,
        cell=first.cell,
        policy=first.policy,
        pool=f"{first.budget} {first.unit}" if first.budget else "",
        n_resumes=len(done),
        n_instances=len({seen.cluster for seen, _ in done}),
        n_errors=len(group) - len(done),
        ttft_s=_mean(times),
        ttft_max_s=max(times, default=0.0),
        replay_tokens=_mean([resume.replay_tokens for resume in found]),
        token_hit=_mean([seen.outcome for seen in group if seen.outcome is not None]),
        pooled_token_hit=sum(resume.anchor_tokens for resume in found) / prompts if prompts else 0.0,
        kv_without_state=sum(resume.kv_without_state for resume in found),
        evictions=sum(resume.evictions for resume in found),
        protection_fired=sum(fired) if fired else None,
        logit_difference=max((one.logit_difference for one in found if one.logit_difference is not None), default=None),
        over_unlimited=_over(group, unlimited),
        over_bound=_over(group, bound),
        ratio=None, difference_s=None, difference_low_s=None, difference_high_s=None, p_value=None, p_holm=None,
        p_harmless_holm=None, p_harm_holm=None, alpha=how.rate(first.evaluation_id), verdict="not shown",
    )  # fmt: skip


def _tests(group: Sequence[Observation], base: Sequence[Observation], margin: float, seed: int) -> _Tests | None:
    """The comparison on the common resumes; None without any."""
    pairs = _paired(group, base)
    if not pairs:
        return None
    clusters = [cluster for _, _, cluster in pairs]
    differences = [one.ttft_s - other.ttft_s for one, other, _ in pairs]
    shifted = [one.ttft_s - (1 + margin) * other.ttft_s for one, other, _ in pairs]
    total = sum(other.ttft_s for _, other, _ in pairs)
    return _Tests(
        difference=sign_flips(differences, clusters, seed),
        shifted=sign_flips(shifted, clusters, seed),
        ratio=1 + sum(differences) / total,
    )


def _judged(rows: Sequence[MatrixRow], tests: Sequence[_Tests | None]) -> Iterator[MatrixRow]:
    made = [one for one in tests if one is not None]
    differs = iter(holm([one.difference.p_value for one in made]))
    harmless = iter(holm([one.shifted.p_below(0.0) for one in made]))
    harms = iter(holm([one.shifted.p_above(0.0) for one in made]))
    for row, test in zip(rows, tests, strict=True):
        if test is None:
            yield row
            continue
        p_holm, p_harmless, p_harm = next(differs), next(harmless), next(harms)
        interval = test.difference.interval(1 - row.alpha)
        if p_holm <= row.alpha and test.difference.mean < 0:
            verdict = "better"
        elif p_harm <= row.alpha:
            verdict = "harm"
        else:
            verdict = "no harm" if p_harmless <= row.alpha else "not shown"
        yield dataclasses.replace(
            row,
            ratio=test.ratio,
            difference_s=test.difference.mean,
            difference_low_s=interval.low,
            difference_high_s=interval.high,
            p_value=test.difference.p_value,
            p_holm=p_holm,
            p_harmless_holm=p_harmless,
            p_harm_holm=p_harm,
            verdict=verdict,
        )


def _over(group: Sequence[Observation], reference: Sequence[Observation] | None) -> float | None:
    """Mean time over that of a reference, on the common resumes; None without any."""
    pairs = _paired(group, reference or ())
    bound = sum(other.ttft_s for _, other, _ in pairs)
    return sum(one.ttft_s for one, _, _ in pairs) / bound if bound else None


def _paired(group: Sequence[Observation], base: Sequence[Observation]) -> list[tuple[Resume, Resume, str]]:
    """The resumes that both have, with their clusters."""
    before = {(seen.fixture_id, seen.fingerprint): seen.resume for seen in base if seen.outcome is not None}
    pairs: list[tuple[Resume, Resume, str]] = []
    for seen in group:
        other = before.get((seen.fixture_id, seen.fingerprint))
        if seen.outcome is not None and seen.resume is not None and other is not None:
            pairs.append((seen.resume, other, seen.cluster))
    return pairs


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
