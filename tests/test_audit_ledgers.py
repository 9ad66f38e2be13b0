"""Our own ledgers, audited and compared: what is planted in them is found, and nothing in a sound one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from factories import make_manifest, make_observation
from scipy import stats

from vorn.audit.__main__ import main
from vorn.audit.build import audit
from vorn.audit.compare import compare
from vorn.audit.ledgers import LedgerAudit, audit_ledger
from vorn.ledger import LedgerWriter, read_ledger
from vorn.records import BadInput, ContractWork, Observation, Resume
from vorn.regrade import regrade


def cell(hits: str, **changes: Any) -> list[Observation]:
    """An observation per mark whose completion gives its outcome: "1", "0", or "x" for an error."""
    whole = {"budget_tokens": 1000, "kept_tokens": 1000.0} if changes.get("policy") == "full" else {}
    texts = {"1": (1.0, "123"), "0": (0.0, "124"), "x": (None, "")}
    return [
        make_observation(
            fixture_id=f"f{i}",
            fixture_index=i,
            outcome=texts[mark][0],
            completion=f" {texts[mark][1]}",
            answer_graded=texts[mark][1],
            error="broke" if mark == "x" else None,
            **whole | changes,
        )
        for i, mark in enumerate(hits)
    ]


def write(folder: Path, *observations: Observation) -> Path:
    writer = LedgerWriter(folder / "e0", make_manifest)
    writer.append(observations)
    writer.close()
    return folder


def findings(folder: Path, observations: Sequence[Observation]) -> LedgerAudit:
    return audit_ledger(write(folder, *observations))


def test_classes_are_graded_by_what_is_recorded(tmp_path):
    classes = {"choices": ("123", "12"), "grade": "longbench_class_line@1", "answers": ("123",)}
    found = findings(tmp_path, cell("1101", policy="full", **classes))
    assert [one for one in found.findings if one.kind == "outcome"] == []
    assert (found.problems, found.n_regraded) == ((), 4)


def test_a_sound_ledger_has_no_finding(tmp_path, capsys):
    cells = [*cell("1101", policy="full"), *cell("1001"), *cell("10x1", policy="h2o", budget="25%", budget_tokens=250)]
    found = findings(tmp_path, cells)
    assert (found.findings, found.problems, found.n_regraded) == ((), (), 11)
    assert found.notes == ("1 observations are errors and have no outcome",)
    assert main([str(tmp_path)]) == 0
    assert "12 observations of 3 cells on 4 fixtures" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"outcome": 1.0}, "outcome", "fixture f1 in tova/token/64: recorded 1.0, ruler_all@1 gives 0.0"),
        ({"answer_graded": "12"}, "graded text", "recorded '12'"),
        ({"kept_tokens": 64.5}, "budget", "64.5 tokens kept, the budget is 64"),
        (
            {"kept_tokens": 2000.0, "budget_tokens": 2000, "budget": "2000"},
            "budget",
            "2000 tokens kept of a prompt of 1000",
        ),
        ({"budget_tokens": 65}, "budget", "budget 64 of 1000 tokens is 65"),
        ({"budget": "half"}, "budget", "budget half of 1000 tokens is 64"),
        ({"evidence_kept": 1.5}, "evidence", "evidence_kept=1.5"),
        ({"evidence_tokens": 1001}, "evidence", "evidence_tokens=1001 of a prompt of 1000"),
        ({"prune_s": -0.5}, "measurement", "prune_s=-0.5"),
        ({"answers": ("123", "9")}, "fixture", "fixture f1: answers=('123', '9') in tova/token/64, ('123',) in"),
        ({"fixture_index": 0}, "fixture", "fixtures f0 and f1 both have index 0"),
        ({"grade": "ruler_any@1"}, "cell", "tova/token/64: grade is 'ruler_all@1' and 'ruler_any@1'"),
        ({"replica_of": "no such cell"}, "cell", "tova/token/64: replica_of is '' and 'no such cell'"),
    ],
)
def test_what_cannot_be_is_found(tmp_path, changes, kind, text):
    sound = cell("10")
    wrong = dataclasses.replace(sound[1], **changes)
    found = [
        one for one in findings(tmp_path, [sound[0], *cell("11", policy="h2o"), wrong]).findings if one.kind == kind
    ]
    assert any(text in one.text for one in found), found


def test_a_number_that_is_none_is_found(tmp_path):
    (segment,) = (write(tmp_path, *cell("1")) / "e0").iterdir()
    text = segment.read_text()
    for name in ("evidence_kept", "kept_tokens", "prune_s"):
        text = re.sub(f'"{name}": [0-9.]+', f'"{name}": NaN', text)
    segment.write_text(text)
    assert [one.text.split(": ")[1] for one in audit_ledger(tmp_path).findings] == [
        "evidence_kept=nan",
        "kept_tokens=nan",
        "prune_s=nan",
    ]


def test_a_reference_that_evicts_is_found(tmp_path):
    (found,) = findings(tmp_path, cell("1", policy="full", kept_tokens=999.0)).findings
    assert found.text == "fixture f0 in full: 999 of 1000 tokens kept, where nothing is evicted"


def test_a_replica_without_its_original_is_found(tmp_path):
    (found,) = findings(tmp_path, cell("1", replica_of="gone")).findings
    assert found.text == "tova/token/64 repeats cell gone, which the ledger lacks"


def test_an_unknown_rule_is_a_problem_and_not_a_wrong_outcome(tmp_path):
    found = findings(tmp_path, cell("11", grade="other@7"))
    assert (len(found.findings), found.n_regraded, len(found.problems)) == (0, 0, 1)
    assert "grade='other@7' is unknown" in found.problems[0]
    assert main([str(tmp_path)]) == 1


def test_damage_duplicates_and_disagreements_on_disk_are_found(tmp_path):
    write(tmp_path, *cell("10"))
    write(tmp_path, *cell("11"))
    first, second = sorted((tmp_path / "e0").iterdir())
    lines = first.read_bytes().split(b"\n")
    first.write_bytes(b"\n".join([lines[0], b"{cut", *lines[1:]]))
    second.write_bytes(second.read_bytes() + b'{"kind": "obs')
    found = audit_ledger(tmp_path)
    assert [one.kind for one in found.findings] == [
        "damaged line",
        "disagreement on outcome",
        "disagreement on completion",
    ]
    assert found.findings[0].text.startswith(f"{first}, line 2 is not JSON")
    assert found.notes == (
        "1 torn last lines: a writer was killed, and a rerun measures what was lost",
        "2 observations were measured again; the first of a cell and fixture counts",
    )


def test_fixtures_that_a_cell_lacks_are_noted(tmp_path):
    found = findings(tmp_path, [*cell("111"), *cell("11", policy="h2o")])
    assert found.notes == ("1 of 6 pairs of a cell and a fixture are not measured",)


@pytest.mark.parametrize("line", [b'{"kind": "observation"}', b'{"kind": 5}'])
def test_a_line_that_is_no_record_is_a_problem_and_the_rest_is_audited(tmp_path, line):
    folder = write(tmp_path / "bad", *cell("1")) / "e0"
    (segment,) = folder.iterdir()
    segment.write_bytes(segment.read_bytes() + line + b"\n")
    found = audit([tmp_path / "bad", write(tmp_path / "good", *cell("1"))])
    assert [len(one.contents.observations) for one in found.ledgers] == [1]
    assert len(found.problems) == 1
    assert str(tmp_path / "bad") in found.problems[0]


def test_a_line_that_nests_without_end_is_noted_as_torn_and_the_rest_is_audited(tmp_path):
    folder = write(tmp_path / "bad", *cell("1")) / "e0"
    (segment,) = folder.iterdir()
    segment.write_bytes(segment.read_bytes() + b"[" * 100_000 + b"\n")
    (one,) = audit([tmp_path / "bad"]).ledgers
    assert len(one.contents.observations) == 1
    assert one.notes == ("1 torn last lines: a writer was killed, and a rerun measures what was lost",)


def test_a_budget_of_the_context_is_not_one_of_the_prompt(tmp_path):
    """Under context_once the question's entries come on top, and a percentage is of the context."""
    asked = {"prompt_tokens": 1000, "budget": "25%", "budget_tokens": 225, "contract": "context_once"}
    right = cell("1", **asked, kept_tokens=265.0, contract_work=ContractWork(read_tokens=40))
    assert findings(tmp_path / "right", right).findings == ()
    wrong = cell("1", **asked, kept_tokens=270.0, contract_work=ContractWork(read_tokens=40))
    assert [one.kind for one in findings(tmp_path / "wrong", wrong).findings] == ["budget"]
    once = cell("1", **{**asked, "contract": "prefill_once"}, kept_tokens=225.0)
    assert [one.kind for one in findings(tmp_path / "once", once).findings] == ["budget"]


def test_warm_resumes_are_no_completions_to_grade(tmp_path):
    resume = Resume(
        matched_tokens=90, anchor_tokens=50, replay_tokens=40, recomputed_tokens=50, ttft_s=1.0, ttft_law="measured",
        kv_without_state=False, evictions=1, protection_fired=None, protection_saturated=None, logit_difference=None,
        greedy_equal=None,
    )  # fmt: skip
    resumed = cell("1", grade="token_hit@1", answers=(), resume=resume)
    found = findings(tmp_path, resumed)
    assert (found.findings, found.problems, found.n_regraded) == ((), (), 0)
    assert found.notes == ("1 observations are warm resumes, which have no completion to grade again",)
    assert regrade(found.contents, "number@1").contents.observations == tuple(resumed)


def noisy(flips: int, n: int = 40) -> list[Observation]:
    """A cell that always hits, and its repetition in the same run, which misses `flips` times."""
    original = cell("1" * n)
    again = cell("0" * flips + "1" * (n - flips), cell_id="again", replica_of=original[0].cell_id)
    return [*original, *again]


def test_flips_between_two_runs_are_counted_and_tested(tmp_path):
    first = read_ledger(write(tmp_path / "a", *noisy(1), *cell("1100" * 10, policy="h2o")) / "e0")
    lost = "0" * 9 + "1" * 30 + "x"
    second = read_ledger(
        write(tmp_path / "b", *cell(lost), *cell("1100" * 10, policy="h2o"), *cell("1", policy="random")) / "e0"
    )
    found = compare(first, second, 0.05)
    tova, h2o = found.cells
    assert (tova.n, tova.n_excluded, tova.first_hits, tova.second_hits) == (39, 1, 39, 30)
    assert tova.lost == tuple(f"f{i}" for i in range(9))
    assert (tova.gained, tova.n_completions, tova.n_changed) == ((), 9, 9)
    direction = stats.binomtest(9, 9).pvalue
    noise = stats.fisher_exact([[9, 30], [1, 39]], alternative="greater")[1]
    assert (found.noise_flips, found.noise_n) == (1, 40)
    assert tova.p_direction == pytest.approx(direction)
    assert tova.p_noise == pytest.approx(noise)
    assert (tova.p_direction_holm, tova.p_noise_holm) == pytest.approx((2 * direction, 2 * noise))
    assert (h2o.lost, h2o.gained, h2o.p_direction) == ((), (), 1.0)
    assert h2o.p_noise == 1.0
    assert found.moved == [tova]
    assert found.only_second == ("pocket niah random/token/64",)


def test_flips_as_frequent_as_those_of_repeated_cells_are_no_change(tmp_path, capsys):
    write(tmp_path / "a", *noisy(10))
    write(tmp_path / "b", *cell("1" * 30 + "01" * 5))
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "noise floor: 10 of 40 fixtures (25.0%) flipped" in text
    assert "lost f30, f32, f34, f36, f38; gained none" in text


def test_flips_in_both_directions_exceed_no_noise(tmp_path):
    write(tmp_path / "a", *noisy(0))
    write(tmp_path / "b", *cell("1" * 28 + "0" * 12))
    found = audit([tmp_path / "a", tmp_path / "b"])
    assert found.comparison is not None
    assert [one.p_noise_holm for one in found.comparison.cells] == pytest.approx(
        [stats.fisher_exact([[12, 28], [0, 40]], alternative="greater")[1]]
    )
    assert len(found.disagreements) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "other"}, "no cell in common: task='niah' and 'other'"),
        ({"model": "other"}, "no cell in common: model='pocket' and 'other'"),
        ({"policy": "h2o"}, "no cell in common: cell='tova/token/64' and 'h2o/token/64'"),
        ({"fingerprint": "new"}, "fixture 'f0' of niah changed between the runs: fingerprint 'print of f0' and 'new'"),
        ({"outcome": None, "error": "broke"}, "no fixture with an outcome in both"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, changes, message):
    write(tmp_path / "a", *cell("1"))
    write(tmp_path / "b", *(make_observation(**changes),))
    found = audit([tmp_path / "a", tmp_path / "b"])
    assert found.comparison is None
    assert message in found.problems[-1]
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1


def test_a_run_in_which_a_label_stands_for_two_cells_is_not_compared(tmp_path):
    one = read_ledger(write(tmp_path / "a", *cell("1"), *cell("1", cell_id="b")) / "e0")
    with pytest.raises(BadInput, match=r"stands for the cells .* and b of one run"):
        compare(one, one, 0.05)


def test_more_than_two_ledgers_are_audited_only(tmp_path):
    paths = [write(tmp_path / name, *cell("1")) for name in "abc"]
    found = audit(paths)
    assert (len(found.ledgers), found.comparison, found.problems) == (3, None, ())
