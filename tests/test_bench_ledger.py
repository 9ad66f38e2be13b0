from __future__ import annotations

import json

import pytest
from factories import make_contents

from vorn.bench import ledger as bench_ledger
from vorn.report import build_report


def test_every_step_is_measured_on_as_many_observations_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    bench_ledger.main(["--fixtures", "5", "--cells", "12"])
    head, *table, last = capsys.readouterr().out.splitlines()
    assert head == "60 observations: 5 fixtures x 12 cells"
    result = json.loads(last)
    assert list(result["steps"]) == ["make and write", "read", "merge", "test", "report"]
    assert [line[:16].strip() for line in table[1:]] == [*result["steps"], "without writing"]
    peaks = [step["peak_bytes"] for step in result["steps"].values()]
    assert peaks == sorted(peaks)


def test_the_ledger_holds_a_panel_with_families_to_test() -> None:
    """Oracle: 2 policies at 3 units and 3 budgets: 9 pairs of policies, 2 x 9 of units, 18 against the reference."""
    blocks = list(bench_ledger.blocks(4, 19))
    report = build_report(make_contents(*[one for block in blocks for one in block]), bench_ledger.PLAN)
    sizes = {pair.family: pair.family_size for pair in report.evaluations[0].pairs}
    assert sizes == {"vs_full": 18, "policies": 9, "units": 18}
    assert {pair.n for pair in report.evaluations[0].pairs} == {4}
