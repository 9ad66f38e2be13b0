"""Two runs of the same cells: which fixtures flipped, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vorn.audit.exact import fisher_exact
from vorn.audit.published import Cells
from vorn.ledger import LedgerContents
from vorn.records import BadInput, Observation
from vorn.stats import holm, mcnemar_exact

Key = tuple[str, str, str]  # model, task, label of the cell


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One cell in both runs, on the fixtures with an outcome in both."""

    model: str
    task: str
    cell: str
    n: int
    n_excluded: int  # fixtures without an outcome in one of the runs
    first_hits: int
    second_hits: int
    lost: tuple[str, ...]  # fixtures that the first run alone hits
    gained: tuple[str, ...]  # and the second alone
    n_changed: int  # fixtures whose outcome changed at all; a fractional one may change without a hit or miss
    n_completions: int  # completions that differ
    p_direction: float  # exact McNemar test of lost against gained
    p_direction_holm: float  # corrected over the cells
    p_noise: float | None  # one-sided Fisher test of flips against those of repeated cells; None without any
    p_noise_holm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both runs, cell by cell."""

    cells: tuple[CellChange, ...]
    only_first: tuple[str, ...]  # cells that one run lacks
    only_second: tuple[str, ...]
    noise_flips: int  # of cells that were repeated within a run (A/A), in both runs together
    noise_n: int
    alpha: float

    @property
    def moved(self) -> list[CellChange]:
        """Cells whose hits moved in one direction, or more often than those of repeated cells."""
        return [
            cell
            for cell in self.cells
            if cell.p_direction_holm <= self.alpha or (cell.p_noise_holm or 1.0) <= self.alpha
        ]


def compare(first: LedgerContents, second: LedgerContents, alpha: float) -> Comparison:
    """Compare two runs, matched by model, task, label of the cell and fixture.

    Direction: under the null hypothesis a flip is as likely a loss as a gain (exact McNemar). Noise: flips of a cell
    against flips between a cell and its repetition (`Observation.replica_of`), pooled over both runs, by a one-sided
    Fisher test that takes the two rates as independent samples. Both corrected by Holm over the cells.

    Raises: BadInput if the runs have no cell, or no fixture of a cell, in common, or if a fixture changed.
    """
    sides = [_by_cell(contents) for contents in (first, second)]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        raise BadInput(_nothing_common(sides))
    noise_flips, noise_n = (sum(pair) for pair in zip(_noise(first), _noise(second), strict=True))
    cells = [_change(key, sides[0][key], sides[1][key], noise_flips, noise_n) for key in common]
    cells = [cell for cell in cells if cell.n]
    if not cells:
        raise BadInput("the runs have cells in common, but no fixture with an outcome in both; run the same fixtures")
    noise_p = [cell.p_noise for cell in cells if cell.p_noise is not None]
    direction, noise = holm([cell.p_direction for cell in cells]), holm(noise_p)
    return Comparison(
        cells=tuple(
            replace(cell, p_direction_holm=direction[i], p_noise_holm=noise[i] if noise else None)
            for i, cell in enumerate(cells)
        ),
        only_first=tuple(" ".join(key) for key in sides[0] if key not in sides[1]),
        only_second=tuple(" ".join(key) for key in sides[1] if key not in sides[0]),
        noise_flips=noise_flips,
        noise_n=noise_n,
        alpha=alpha,
    )


def _by_cell(contents: LedgerContents) -> dict[Key, dict[str, Observation]]:
    """Observations by cell and fixture, without cells that repeat another; several evaluations may share a label."""
    found: dict[Key, dict[str, Observation]] = {}
    for seen in contents.observations:
        if not seen.replica_of:
            cell = found.setdefault((seen.model, seen.task, seen.cell), {})
            other = cell.setdefault(seen.fixture_id, seen)
            if other.cell_id != seen.cell_id:
                raise BadInput(
                    f"cell={seen.cell!r} of {seen.model}, {seen.task} stands for the cells {other.cell_id} and "
                    f"{seen.cell_id} of one run; legal is one evaluation of a model and task per run; name its folder"
                )
    return found


def _nothing_common(sides: Sequence[Mapping[Key, object]]) -> str:
    def names(position: int) -> list[str]:
        return [", ".join(dict.fromkeys(key[position] for key in side)) or "none" for side in sides]

    for position, what in enumerate(("model", "task", "cell")):
        one, other = names(position)
        if one != other:
            differ = f": {what}={one[:200]!r} and {other[:200]!r}"
            break
    else:
        differ = ""
    return f"the runs have no cell in common{differ}; legal are two runs of the same cells on one model and task"


def _change(
    key: Key, first: Mapping[str, Observation], second: Mapping[str, Observation], noise_flips: int, noise_n: int
) -> CellChange:
    pairs = [(one, second[fixture]) for fixture, one in first.items() if fixture in second]
    for one, other in pairs:
        if one.fingerprint != other.fingerprint:
            raise BadInput(
                f"fixture {one.fixture_id!r} of {key[1]} changed between the runs: fingerprint {one.fingerprint!r} and "
                f"{other.fingerprint!r}; legal are the same prompts and answers; run one version of the task"
            )
    done = [(one, other) for one, other in pairs if one.outcome is not None and other.outcome is not None]
    attempted = len(first.keys() | second.keys())
    lost = tuple(one.fixture_id for one, other in done if one.outcome == 1.0 != other.outcome)
    gained = tuple(one.fixture_id for one, other in done if one.outcome != 1.0 == other.outcome)
    flips = len(lost) + len(gained)
    table = Cells(flips, len(done) - flips, noise_flips, noise_n - noise_flips)
    return CellChange(
        model=key[0],
        task=key[1],
        cell=key[2],
        n=len(done),
        n_excluded=attempted - len(done),
        first_hits=sum(one.outcome == 1.0 for one, _ in done),
        second_hits=sum(other.outcome == 1.0 for _, other in done),
        lost=lost,
        gained=gained,
        n_changed=sum(one.outcome != other.outcome for one, other in done),
        n_completions=sum(one.completion != other.completion for one, other in done),
        p_direction=mcnemar_exact(len(lost), len(gained)),
        p_direction_holm=1.0,
        p_noise=fisher_exact(table, one_sided=True) if noise_n else None,
        p_noise_holm=None,
    )


def _noise(contents: LedgerContents) -> tuple[int, int]:
    """Flips and fixtures of all cells that repeat another within the run."""
    outcomes = {(seen.cell_id, seen.fixture_id): seen.outcome for seen in contents.observations}
    pairs = [
        (seen.outcome, outcomes.get((seen.replica_of, seen.fixture_id)))
        for seen in contents.observations
        if seen.replica_of
    ]
    done = [(one, other) for one, other in pairs if one is not None and other is not None]
    return sum((one == 1.0) != (other == 1.0) for one, other in done), len(done)
