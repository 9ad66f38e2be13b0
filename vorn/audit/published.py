"""What an artifact claims, as plain values with the field path of each, and its observations as our own records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from vorn.records import Observation

ALPHA = 0.05  # the level of the released results; a file with families may say another


class Cells(NamedTuple):
    """A table [[a, b], [c, d]] of counts."""

    a: int
    b: int
    c: int
    d: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of one policy on one model, and its rates; None where the file does not say."""

    where: str  # field path; "" if the whole file is the row
    label: str  # by which tests name it; "" if it has none
    model: str
    method: str
    budget: str
    guards: str
    n: int | None
    hits: int | None
    rate: float | None
    interval: tuple[float, float] | None  # 95 %, of the rate
    cost_usd: float | None
    duration_s: float | None
    observations: tuple[Observation, ...]  # () if the file has none

    @property
    def outcomes(self) -> dict[str, float | None]:
        """Outcome by fixture."""
        return {seen.fixture_id: seen.outcome for seen in self.observations}

    @property
    def name(self) -> str:
        """The label, or what else tells the row from others."""
        return self.label or " ".join(part for part in (self.method, self.budget) if part) or self.where or "the file"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTest:
    """A published p-value of two rows; None where the file does not say."""

    where: str
    scope: str  # field path of what holds it: labels mean rows below that
    name: str  # of the test, as the file has it
    lhs: str  # labels of the rows; "" where the file has counts alone
    rhs: str
    cells: Cells | None  # McNemar: [[both, lhs only], [rhs only, neither]]; Fisher: [[hits, misses] of lhs, of rhs]
    p_value: float
    discordant: int | None
    lhs_share: float | None  # of the discordant pairs
    is_paired: bool | None
    is_significant: bool | None
    odds_ratio: float | None
    difference: float | None  # of the rates, rhs - lhs where the file has it beside Fisher's test

    @property
    def is_fisher(self) -> bool:
        """Whether the two rows are tested as independent samples."""
        return "fisher" in self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired test within a family that Holm's procedure corrects."""

    where: str
    family: str
    source: str  # of the two rows: labels mean rows of that artifact; "" if the file does not say
    lhs: str
    rhs: str
    cells: Cells
    p_value: float
    p_holm: float
    discordant: int | None
    label: str  # the file's verdict; "" if it has none
    lhs_rate: float | None
    rhs_rate: float | None
    lhs_interval: tuple[float, float] | None
    rhs_interval: tuple[float, float] | None
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSided:
    """Fixtures that only one of two rows hit, as a file lists them."""

    where: str
    scope: str
    lhs: str
    rhs: str
    lhs_only: frozenset[str]
    rhs_only: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """An entry that the paper's accounting counts as a row, with the numbers it adds up."""

    where: str
    n_observations: int
    cost_usd: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of published results, as far as it could be read."""

    path: str
    rows: tuple[Row, ...]
    tests: tuple[PairTest, ...]
    comparisons: tuple[Comparison, ...]
    one_sided: tuple[OneSided, ...]
    alpha: float  # of the labels of `comparisons`
    n_failures: int  # runs that failed, with no result
    is_failure_list: bool  # the file holds failures and nothing else
    counted: tuple[Counted, ...]
    unchecked: tuple[str, ...]  # field paths of numbers that no check reads, list indices left out
    problems: tuple[str, ...]  # what could not be read, by field path; it is in none of the above
