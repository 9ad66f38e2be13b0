"""Leaves the terminal to progress and results: Lightning reports what is wrong, not what is usual."""

from __future__ import annotations

import logging
import warnings

from lightning.fabric.utilities.warnings import PossibleUserWarning


def quieten_lightning() -> None:
    """Silence what every run would say."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning 2.6 with torch 2.13 warns about its own use of pytree, in every run.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
    # Fixtures are made here and not loaded from a disk; worker processes would only copy them.
    warnings.filterwarnings("ignore", r".*does not have many workers", PossibleUserWarning)
