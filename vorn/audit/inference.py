"""By which rule of the released harness a row was graded, as far as its completions tell.

The artifacts have no accepted answers. A fixture whose answer is a number gives it away: a completion that counts as
correct under either rule and is nothing but digits is the answer. With the answers that all audited files give away
together, each row's outcomes are graded again under both rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vorn.audit.pairs import NotRecomputable, named_rows
from vorn.audit.published import ALPHA, Artifact, Row
from vorn.grading import grade
from vorn.stats import PairedTable, mcnemar_exact

RULES = ("vorn_mat_v1@1", "vorn_mat_v2@1")
NUMBERED = "niah_"  # the harness searches for numbers in RULER's tasks of this name alone; a fixture id begins with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """Which rules reproduce a row's outcomes."""

    row: Row
    rules: tuple[str, ...]  # both, one or none of `RULES`
    n_known: int  # of its fixtures have a known answer
    contradicting: tuple[str, ...]  # where no rule fits: fixtures that the rule that fits best does not reproduce

    @property
    def verdict(self) -> str:
        """One word: "v1", "v2", "both", "neither", or "untold" if no answer is known."""
        if not self.n_known:
            return "untold"
        return {(): "neither", RULES: "both", RULES[:1]: "v1", RULES[1:]: "v2"}[self.rules]


def infer_rules(rows: Sequence[Row], answers: Mapping[str, str]) -> list[Inferred]:
    """The rules that fit each row with observations, by the answers that all the rows together give away."""
    rows = [row for row in rows if row.observations]
    texts = _exact_texts(rows)
    return [_infer(row, answers, texts) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRule:
    """A paired test with both rows graded anew, under each rule, on the fixtures whose answer is known."""

    where: str
    name: str
    n: int
    p_values: tuple[float, float]  # under the first and the second of `RULES`

    @property
    def is_torn(self) -> bool:
        """Whether it is significant under one rule and not under the other."""
        return (self.p_values[0] <= ALPHA) != (self.p_values[1] <= ALPHA)


def pairs_by_rule(artifact: Artifact, answers: Mapping[str, str]) -> list[ByRule]:
    """The paired tests of a file under both rules; those of fixtures without a known answer are left out."""
    found = []
    for test in artifact.tests:
        try:
            pair = None if test.is_fisher else named_rows(test, artifact.rows)
        except NotRecomputable:
            continue  # is said where the test itself is checked
        if pair is None:
            continue
        graded = [[_regraded(row, answers, rule) for row in pair] for rule in RULES]
        tables = [PairedTable.from_outcomes(*outcomes) for outcomes in graded]
        if tables[0].n:
            first, second = (mcnemar_exact(table.lhs_only, table.rhs_only) for table in tables)
            name = f"{test.lhs} against {test.rhs}"
            found.append(ByRule(where=test.where, name=name, n=tables[0].n, p_values=(first, second)))
    return found


def _regraded(row: Row, answers: Mapping[str, str], rule: str) -> dict[str, float | None]:
    return {
        seen.fixture_id: _outcome(rule, seen.completion, answers[seen.fixture_id])
        for seen in row.observations
        if seen.fixture_id in answers
    }


def numeric_answers(rows: Iterable[Row]) -> dict[str, str]:
    """The answer of each fixture that gives it away; none for a fixture that gives away two."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for seen in row.observations:
            if seen.outcome == 1.0 and seen.fixture_id.startswith(NUMBERED):
                surface = _surface(seen.completion)
                if surface.isdigit():
                    found.setdefault(seen.fixture_id, set()).add(surface)
    return {fixture: answers.pop() for fixture, answers in found.items() if len(answers) == 1}


def _infer(row: Row, answers: Mapping[str, str], texts: Mapping[tuple[str, str], set[float]]) -> Inferred:
    wrong: dict[str, list[str]] = {rule: [] for rule in RULES}
    n_known = 0
    for seen in row.observations:
        fixture = seen.fixture_id
        if fixture in answers:
            n_known += 1
            for rule in RULES:
                if _outcome(rule, seen.completion, answers[fixture]) != seen.outcome:
                    wrong[rule].append(fixture)
        elif not fixture.startswith(NUMBERED):
            # Both rules ask for equality here, which only a text that is right once and wrong once can contradict.
            n_known += 1
            if len(texts[fixture, _surface(seen.completion)]) > 1:
                for rule in RULES:
                    wrong[rule].append(fixture)
    rules = tuple(rule for rule in RULES if not wrong[rule])
    best = min(RULES, key=lambda rule: len(wrong[rule]))
    return Inferred(row=row, rules=rules, n_known=n_known, contradicting=() if rules else tuple(wrong[best]))


def _exact_texts(rows: Iterable[Row]) -> dict[tuple[str, str], set[float]]:
    """The outcomes that each text had, by fixture and text."""
    found: dict[tuple[str, str], set[float]] = {}
    for row in rows:
        for seen in row.observations:
            if not seen.fixture_id.startswith(NUMBERED) and seen.outcome is not None:
                found.setdefault((seen.fixture_id, _surface(seen.completion)), set()).add(seen.outcome)
    return found


@lru_cache(maxsize=2**16)
def _surface(completion: str) -> str:
    """What the harness compares with the answers."""
    graded = grade(RULES[0], completion, ["-"]).answer_graded
    return " ".join(graded.lower().split())


@lru_cache(maxsize=2**16)
def _outcome(rule: str, completion: str, answer: str) -> float:
    return grade(rule, completion, [answer]).outcome
