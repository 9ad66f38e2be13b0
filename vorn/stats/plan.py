"""What a report tests and at which error rates: the `stats` group of the configuration. Pure Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from vorn.records import REFERENCE, BadInput

FAMILIES = ("vs_full", "policies", "units", "guards", "contracts")
SEQUENTIAL = "sequential"
SELECT = "select"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPlan:
    """What is tested and at which error rates; refuses values that are out of range. Every default stands in conf/."""

    __test__: ClassVar[bool] = False  # pytest takes classes with this beginning for tests

    alpha: float  # family-wise error rate; two-sided intervals have level 1 - alpha
    margin: float  # of non-inferiority and equivalence, a fraction: 0.02 is 2 points
    discordance: float  # share of discordant pairs that statements on power assume
    families: tuple[str, ...]  # of FAMILIES: those that are tested
    stop: str | None  # None, or "sequential": looks after each fixture, tests that allow it
    split: str | None  # None, or "select": choose parameters on one half of the fixtures, test on the other
    seed: int  # of Monte Carlo tests

    def __post_init__(self) -> None:
        _fraction("alpha", self.alpha, 0.5, "0.05 is usual")  # one-sided intervals have level 1 - 2 alpha
        _fraction("margin", self.margin, 1.0, "0.02 is 2 points")
        _fraction("discordance", self.discordance, 1.0, "0.2 is one pair in five")
        _families(self.families)
        _option("stop", self.stop, SEQUENTIAL)
        _option("split", self.split, SELECT)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise BadInput(f"stats.seed={self.seed!r} is not legal; give a whole number >= 0")
        if self.is_sequential and self.split is not None:
            raise BadInput(
                f"stats.stop={self.stop} with stats.split={self.split}: legal is one of the two, since a run that "
                "stops early leaves no half to test on; drop one of them"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TestPlan:
        """The plan that the `stats` group describes.

        Raises: BadInput if it is no mapping, for a field that is missing or unknown, or a value that is not legal.
        """
        if not isinstance(config, Mapping):
            raise BadInput(f"stats={config!r} is not legal; give its fields, as in stats.alpha=0.05")
        names = [field.name for field in dataclasses.fields(cls)]
        for name in config:
            if name not in names:
                near = get_close_matches(str(name), names, 1)
                raise BadInput(
                    f"stats.{name} is unknown;{f' did you mean stats.{near[0]}?' if near else ''} "
                    f"legal: {', '.join(names)}"
                )
        for name in names:
            if name not in config:
                raise BadInput(f"stats.{name} is missing; give it as stats.{name}=VALUE")
        families = config["families"]
        if isinstance(families, str) or not isinstance(families, Sequence):
            raise BadInput(f"stats.families={families!r} is not legal; give a list of {', '.join(FAMILIES)}")
        return cls(**{**config, "families": tuple(families)})

    @property
    def is_sequential(self) -> bool:
        """Whether a run may look after every fixture and stop: then only anytime-valid statements are made."""
        return self.stop == SEQUENTIAL

    @property
    def level(self) -> float:
        """Of two-sided intervals."""
        return 1.0 - self.alpha


def check_independent(plan: TestPlan, clusters: Sequence[str]) -> None:
    """Refuse to stop sequentially on fixtures that share a cluster, for which no e-value is built here.

    Args:
        plan: refused if it stops sequentially.
        clusters: of the fixtures, "" where one stands alone.
    Raises: BadInput naming the first cluster with several fixtures.
    """
    named = [cluster for cluster in clusters if cluster]
    if plan.is_sequential and len(set(named)) < len(named):
        twice = next(cluster for cluster in named if named.count(cluster) > 1)
        raise BadInput(
            f"stats.stop={plan.stop}: several fixtures share cluster {twice!r}, and looking after each of them is "
            "legal for independent fixtures only; run without stats.stop, which tests by cluster"
        )


def _fraction(name: str, value: object, below: float, example: str) -> None:
    if not isinstance(value, float) or not 0.0 < value < below:
        raise BadInput(f"stats.{name}={value!r} is not legal; give a fraction above 0 and below {below:g}; {example}")


def _option(name: str, value: object, legal: str) -> None:
    if value not in (None, legal):
        raise BadInput(f"stats.{name}={value!r} is not legal; give {legal} or null")


def _families(families: Sequence[str]) -> None:
    for family in families:
        if family not in FAMILIES:
            raise BadInput(f"stats.families holds {family!r}; legal: {', '.join(FAMILIES)}; name some of them")
    if not families or len(set(families)) < len(families):
        raise BadInput(
            f"stats.families={list(families)}: legal is at least one of {', '.join(FAMILIES)}, each once; "
            f"[vs_full] tests against {REFERENCE} only"
        )
