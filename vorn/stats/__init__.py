"""Statistics of paired comparisons; docs/statistics.md says which test is used when."""

from vorn.stats.confidence import difference_sequence, rate_sequence
from vorn.stats.families import compared
from vorn.stats.intervals import Interval, tango_interval, tango_p_above, wilson
from vorn.stats.margins import Margins, least_fixtures, margins, tango_margins
from vorn.stats.paired import PairedTable, holm, mcnemar_exact, smallest_discordant
from vorn.stats.plan import FAMILIES, TestPlan, check_independent
from vorn.stats.power import detectable_difference, fixtures_for, mcnemar_power
from vorn.stats.sequential import (
    Evidence,
    anytime_p,
    common_prefix,
    futile,
    log_e_value,
    rejected,
    replay,
    settled,
    smallest_discordant_anytime,
)
from vorn.stats.signflip import Sample, SignFlips, patterns_for, sign_flips, sign_flips_of_all

__all__ = [
    "FAMILIES",
    "Evidence",
    "Interval",
    "Margins",
    "PairedTable",
    "Sample",
    "SignFlips",
    "TestPlan",
    "anytime_p",
    "check_independent",
    "common_prefix",
    "compared",
    "detectable_difference",
    "difference_sequence",
    "fixtures_for",
    "futile",
    "holm",
    "least_fixtures",
    "log_e_value",
    "margins",
    "mcnemar_exact",
    "mcnemar_power",
    "patterns_for",
    "rate_sequence",
    "rejected",
    "replay",
    "settled",
    "sign_flips",
    "sign_flips_of_all",
    "smallest_discordant",
    "smallest_discordant_anytime",
    "tango_interval",
    "tango_margins",
    "tango_p_above",
    "wilson",
]
