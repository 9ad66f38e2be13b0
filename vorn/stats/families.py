"""Which cells are compared with which: the families whose error rate is held. Pure Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Protocol, TypeVar


class Compared(Protocol):
    """What decides whether two cells are compared: their labels, as a cell's specification and a report's row have."""

    @property
    def policy(self) -> str: ...  # noqa: D102
    @property
    def params(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def guards(self) -> str: ...  # noqa: D102
    @property
    def budget(self) -> str: ...  # noqa: D102
    @property
    def contract(self) -> str: ...  # noqa: D102
    @property
    def is_reference(self) -> bool: ...  # noqa: D102


Cell = TypeVar("Cell", bound=Compared)


def compared(cells: Sequence[Cell], family: str) -> Iterator[tuple[Cell, Cell]]:
    """The pairs (lhs, rhs) of a family, in the order of `cells`.

    Args:
        cells: without replicas (A/A), which belong to no family.
        family: one of `vorn.stats.FAMILIES`. "vs_full": every pruned cell with the reference of its contract, or with
            the first reference where it has none; "policies": cells that differ in policy or parameters only; "units":
            in the unit only; "contracts": in the contract only; "guards": in the guards only.
    """
    pruned = [cell for cell in cells if not cell.is_reference]
    references = [cell for cell in cells if cell.is_reference]
    if family == "vs_full":
        for cell in pruned:
            own = [reference for reference in references if reference.contract == cell.contract] or references
            yield from ((cell, reference) for reference in own[:1])
        return
    for lhs, rhs in combinations(pruned, 2):
        if lhs.budget == rhs.budget and _differing(lhs, rhs) == [family]:
            yield lhs, rhs


def _differing(lhs: Compared, rhs: Compared) -> list[str]:
    """The families in whose matter two cells differ."""
    return [
        family
        for family, differ in (
            ("policies", (lhs.policy, lhs.params) != (rhs.policy, rhs.params)),
            ("units", lhs.unit != rhs.unit),
            ("guards", lhs.guards != rhs.guards),
            ("contracts", lhs.contract != rhs.contract),
        )
        if differ
    ]
