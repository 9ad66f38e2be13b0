"""Statistics of paired comparisons; docs/statistics.md says which test is used when."""

from vorn.stats.families import compared
from vorn.stats.paired import (
    Interval,
    PairedTable,
    holm,
    mcnemar_exact,
    smallest_discordant,
    tango_interval,
    wilson,
)
from vorn.stats.plan import FAMILIES, TestPlan, check_independent
from vorn.stats.sequential import (
    Evidence,
    anytime_p,
    common_prefix,
    futile,
    log_e_value,
    rejected,
    replay,
    settled,
)

__all__ = [
    "FAMILIES",
    "Evidence",
    "Interval",
    "PairedTable",
    "TestPlan",
    "anytime_p",
    "check_independent",
    "common_prefix",
    "compared",
    "futile",
    "holm",
    "log_e_value",
    "mcnemar_exact",
    "rejected",
    "replay",
    "settled",
    "smallest_discordant",
    "tango_interval",
    "wilson",
]
