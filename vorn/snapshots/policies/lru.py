"""Least recently used, with the rule of what counts as a use as its parameter."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting


@dataclass(frozen=True)
class Lru:
    """Evicts the snapshot that was inserted or used the longest ago.

    bump=winner: only the restored snapshot is used, as Atlas since pull request 287, SGLang since 31643 and the text of
    Marconi (arXiv:2411.19379) have it. bump=path: all usable snapshots on its path are, the deepest last, as in SGLang
    before 31643 and in the first version of Marconi's code; that is the policy `lru_path`.
    """

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return Ranked(lambda entry: entry.last)
