"""experiment=warm_resume through the main entry: records, resuming, verdicts, bad input."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from composing import CONF, changed_to, composed
from factories import resume_cell as made
from hydra.utils import instantiate
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf

from vorn.ledger import LedgerContents, read_ledger
from vorn.records import BadInput, Manifest, Observation
from vorn.report.__main__ import main as report_main
from vorn.snapshots import bench
from vorn.snapshots.matrix import Judgement, build_matrix
from vorn.snapshots.plan import plan_campaign
from vorn.snapshots.policies.marconi import Marconi
from vorn.snapshots.recorded import recorded_matrix
from vorn.sweeps import JobNote, note_job, report_sweep

SMALL = ("experiment=warm_resume", "workload=[lease_rig]", "workload.seeds=3")
ONE = "snapshot_policy=[forecast]"
JUDGEMENT = Judgement(baseline="forecast", bound="good", margin=0.05, alpha=0.05, seed=0)
Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    """`python launch.py OVERRIDES` in this process; returns the exit code."""

    def run(*overrides: str) -> int:
        from vorn.snapshots import run

        cfg = composed(*SMALL, f"ledger_dir={tmp_path / 'ledgers'}", "+trainer.enable_progress_bar=false", *overrides)
        return run.evaluate(cfg, plan_campaign(cfg), tmp_path / "out")

    return run


@functools.cache
def base() -> DictConfig:
    return composed(*SMALL, ONE)


def changed(*overrides: str) -> DictConfig:
    """The small campaign with these settings; composed anew only where a group is selected."""
    if any("=[" in one and not one.startswith("pool") for one in overrides):
        return composed(*SMALL, ONE, *overrides)
    cfg = base()
    OmegaConf.set_struct(cfg, False)
    for one in overrides:
        cfg = changed_to(cfg, one.lstrip("+"))
    return cfg


def observations(tmp_path: Path) -> tuple[Observation, ...]:
    return read_ledger(*(tmp_path / "ledgers").iterdir()).observations


class Uploads(WandbLogger):
    """W&B without a run: keeps what is logged."""

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {}
        self._run = SimpleNamespace(log=self.logged.update, summary={})

    @property
    def experiment(self) -> Any:
        return self._run

    def rows(self, table: str) -> list[dict[str, Any]]:
        found = self.logged[table]
        return [dict(zip(found.columns, row, strict=True)) for row in found.data]


@pytest.mark.integration
def test_a_campaign_is_recorded_judged_and_resumed(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate("snapshot_policy=[forecast,tail_lease]") == 0
    seen = observations(tmp_path)
    assert {one.cell for one in seen} == {"full", "forecast/8", "tail_lease/8"}
    assert len(seen) == 3 * 3 * 7  # cells, seeds, later turns
    for one in seen:
        found = one.resume
        assert found is not None
        assert found.replay_tokens == found.matched_tokens - found.anchor_tokens
        assert found.recomputed_tokens == one.prompt_tokens - found.anchor_tokens
        assert found.ttft_s == pytest.approx(0.43 + 0.0012 * found.recomputed_tokens)
        assert one.outcome == found.anchor_tokens / one.prompt_tokens
        assert one.fixture_id.startswith(f"{one.cluster}/turn")
        assert found.kv_without_state == (found.anchor_tokens == 0)
        assert (found.evictions > 0) == (one.cell != "full" and one.fixture_index % 7 + 1 >= 1)
    leased = [one.resume.protection_fired for one in seen if one.resume and one.policy == "tail_lease"]
    assert sum(filter(None, leased)) > 0
    assert "tail_lease" in capsys.readouterr().out
    names = ("matrix.csv", "matrix.md", "matrix.png", "matrix.svg", "report.md", "cells.csv", "pairs.csv")
    assert all((tmp_path / "out" / name).stat().st_size for name in names)
    assert evaluate("snapshot_policy=[forecast,tail_lease]") == 0
    assert "all 3 workload instances are measured" in capsys.readouterr().out
    assert report_main([str(tmp_path / "ledgers"), "--out", str(tmp_path / "again")]) == 0
    assert "Mean time to the first token over that of forecast" in capsys.readouterr().out
    for name in ("matrix.csv", "matrix.md"):  # from the ledgers alone, without a setting of the run
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "out" / name).read_text()
    uploads = Uploads()
    monkeypatch.setattr("vorn.snapshots.run.make_loggers", lambda *_: [uploads])
    assert evaluate("snapshot_policy=[forecast,lru]", "workload.seeds=4") == 0
    again = observations(tmp_path)
    assert again[: len(seen)] == seen
    assert len(again) == len(seen) + 7 * 3 + 3 * 7  # lru on the old seeds; three cells on the new one
    rows = {(one["cell"], one["fixture_id"]): (one["outcome"], one["replay_tokens"]) for one in uploads.rows("resumes")}
    assert rows == {
        (one.cell, one.fixture_id): (one.outcome, one.resume.replay_tokens)
        for one in again
        if one.policy != "tail_lease" and one.resume  # not asked for this time
    }
    assert len(uploads.rows("resumes")) == len(rows)
    assert [(one["cell"], one["verdict"]) for one in uploads.rows("matrix")] == [
        ("full", "reference"), ("forecast/8", "baseline"), ("lru/8", "not shown")
    ]  # fmt: skip


@pytest.mark.integration
def test_a_sweep_ends_with_a_report_over_all_its_jobs(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the tables of the jobs' own reports, and counts over them."""
    policies = "snapshot_policy=[forecast,tail_lease,lru]"
    jobs: list[list[dict[str, str]]] = []
    monkeypatch.setattr("callbacks.resume_matrix.write_page", lambda *_: [tmp_path])  # the sweep's is looked at
    for number, grid in enumerate((256, 2048)):
        assert evaluate(policies, "workload.seeds=7", f"placement.grid={grid}") == 0
        (tmp_path / "out").rename(tmp_path / str(number))
        jobs.append(table(tmp_path / str(number) / "matrix.csv"))
        note_job(tmp_path, JobNote(number, f"placement.grid={grid}", str(tmp_path / str(number)), 0))
    assert evaluate(policies, "workload.seeds=8", "placement.grid=2048") == 0  # another job's, in the same ledgers
    note_job(tmp_path, JobNote(2, "placement.grid=0", str(tmp_path / "2"), 1, "placement.grid=0: legal is"))
    capsys.readouterr()
    assert report_sweep(tmp_path) == 1
    assert table(tmp_path / "matrix.csv") == jobs[0] + jobs[1]
    assert len({row["over_unlimited"] for row in table(tmp_path / "matrix.csv")}) > 2
    for share in table(tmp_path / "sensitivity.csv"):
        rows = [row for job in jobs for row in job if row["policy"] == share["policy"]]
        assert int(share["settings"]) == len(rows) == 2
        assert int(share["better"]) == sum(row["verdict"] == "better" for row in rows)
        assert int(share["harm"]) == sum(row["verdict"] == "harm" for row in rows)
        assert float(share["least"]) == min(float(row["ratio"]) for row in rows)
    text, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    assert "### grid=256+tail+leaf, swap" in text
    assert "### grid=2048+tail+leaf, swap" in text
    assert "- job 2 (placement.grid=0): placement.grid=0: legal is" in text
    assert page.count('class="matrix"') == 2
    assert "Share of settings in which a policy wins" in page
    assert [row["code"] for row in table(tmp_path / "jobs.csv")] == ["0", "0", "1"]
    assert "report on all jobs" in capsys.readouterr().out
    planned = {one.evaluation_id: one.fixtures for one in read_ledger(*(tmp_path / "ledgers").iterdir()).manifests}
    assert sorted(planned.values()) == [49, 56]  # seven resumes per instance; the later run asked for eight instances


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_cells_and_identity_follow_the_configuration() -> None:
    plan = plan_campaign(composed(*SMALL, "snapshot_policy=[forecast,tail_pin]", "snapshot_policy.tail_pin.k=[2,8]",
                                  "pool.slots=[4,8]", "pool.order=[swap,stable]"))  # fmt: skip
    (workload,) = plan.workloads
    assert len(workload.cells) == 1 + 3 * 2 * 2
    assert workload.cells[0].label == "full"
    assert {"tail_pin(k=2)/4", "tail_pin/8/stable", "forecast/8"} <= {cell.label for cell in workload.cells}
    ids = {cell.cell_id(workload.evaluation_id) for cell in workload.cells}
    assert len(ids) == len(workload.cells)
    other = plan_campaign(changed("placement.grid=512")).workloads[0]
    more = plan_campaign(changed("workload.seeds=7")).workloads[0]
    assert other.evaluation_id != workload.evaluation_id == more.evaluation_id
    by_bytes = plan_campaign(changed("pool.bytes=800", "pool.snapshot_bytes=100")).workloads[0].cells[1]
    assert (by_bytes.unit, by_bytes.budget, by_bytes.pool().capacity.size_bytes) == ("bytes", "800", 800)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("pool.slots=0",), r"pool.slots=0 is not legal"),
        (("placement.tail=maybe",), r"placement.tail='maybe' is not legal; give true or false"),
        (("placement.rendered_anew=null",), r"placement.rendered_anew=None is not legal; give true or false"),
        (("stats.alpha=5.0",), r"stats.alpha=5.0 is not legal"),
        (("stats.stop=sequential",), r"stats.stop=sequential with run=warm_resume"),
        (("pool.slots=[8,8]",), r"pool.slots=\[8,8\] names 8 twice"),
        (("pool.order=random",), r"Unknown value of pool.order: 'random'"),
        (("pool.slots=4", "pool.bytes=9"), r"pool.slots=4 with pool.bytes=9: legal is one of the two"),
        (("workload.seeds=0",), r"workload.seeds=0 is not legal"),
        (("stats.split=select",), r"^stats.split=select: legal for snapshots is null, .*; leave it out"),
        (("verdict.baseline=lru",), r"Unknown verdict.baseline: 'lru'.*Available: forecast"),
        (("verdict.bound=clairvoyan",), r"Unknown verdict.bound: 'clairvoyan'. Did you mean 'clairvoyant'"),
        (("verdict.margin=5",), r"verdict.margin=5 is not legal"),
        (("+snapshot_policy.forecast.k=1",), r"Unknown parameter of snapshot_policy 'forecast': 'k'"),
        (("+snapshot_policy.own.k=1",), r"snapshot_policy.own=.* has no _target_ and is no policy"),
        (
            ("snapshot_policy=[forecast,tail_pin]", "snapshot_policy.tail_pin.k=0"),
            r"k=0 of tail_pin: legal is at least 1",
        ),
        (("workload=[trace]", "workload.trace.path=nowhere"), r"workload.trace.path='nowhere' is no file"),
        (("+workload.lease_rig.turn=1",), r"Unknown setting of workload 'lease_rig': 'turn'. Did you mean 'turns'"),
    ],
)
def test_bad_input_is_refused_in_one_message(overrides: tuple[str, ...], problem: str) -> None:
    with pytest.raises(Exception, match=problem) as caught:
        plan_campaign(changed(*overrides))
    causes = [caught.value, caught.value.__cause__]
    assert any(isinstance(one, BadInput) for one in causes)


def test_every_workload_draws_instances_with_fixtures(tmp_path: Path) -> None:
    line = '{"session": 1, "segments": [["a", 40]], "measured": "one"}'
    (tmp_path / "t.jsonl").write_text(line)
    names = sorted(path.stem for path in (CONF / "workload").glob("*.yaml"))
    traced = f"workload.trace.path={tmp_path / 't.jsonl'}"
    plan = plan_campaign(composed(*SMALL, ONE, f"workload=[{','.join(names)}]", "workload.seeds=2", traced))
    assert [one.task.partition("(")[0] for one in plan.workloads] == names
    for instance in (instance for one in plan.workloads for instance in one.instances):
        assert len(set(instance.fixtures)) == len(instance.fixtures) > 0


def test_a_draw_that_repeats_is_no_further_evidence(tmp_path: Path) -> None:
    """A trace is one instance, whatever the seeds; so is a workload whose sizes do not vary."""
    (tmp_path / "t.jsonl").write_text('{"session": 1, "segments": [["a", 40]], "measured": "one"}')
    traced = f"workload.trace.path={tmp_path / 't.jsonl'}"
    names = "workload=[trace,strand,round_robin,lease_rig]"
    plan = plan_campaign(composed(*SMALL, ONE, names, traced, "workload.strand.spread=0"))
    drawn = {one.task.partition("(")[0]: (len(one.instances), one.repeats) for one in plan.workloads}
    assert drawn == {"trace": (1, 2), "strand": (1, 2), "round_robin": (3, 0), "lease_rig": (3, 0)}
    assert plan.workloads[0].instances[0].fixtures == [f"{plan.workloads[0].task}/seed0/one"]


def test_every_policy_file_makes_a_cell() -> None:
    names = {path.stem for path in (CONF / "snapshot_policy").glob("*.yaml")} - {"all", "unlimited"}
    cells = plan_campaign(composed(*SMALL, "snapshot_policy=[all,unlimited]")).workloads[0].cells
    assert {cell.policy for cell in cells} == names | {"full"}
    assert all(cell.pool().rule.bump for cell in cells)


def test_verdicts_flip_whole_instances() -> None:
    """Ten instances of two resumes: the least two-sided p is 2 / 2^10, by enumeration of the signs."""
    base = {f"i{n}": [1.0, 3.0 + n / 10] for n in range(10)}

    def scaled(factor: float) -> dict[str, list[float]]:
        return {name: [factor * one for one in times] for name, times in base.items()}

    rows = build_matrix(
        [
            *made("full", scaled(0.5), evictions=0),
            *made("forecast", base),
            *made("good", scaled(0.5)),
            *made("same", base, fired=0),
            *made("bad", scaled(1.3), fired=2),
            *made("mixed", {name: [one * (2 if n % 2 else 0.5) for one in times]
                            for n, (name, times) in enumerate(base.items())}),
        ],
        JUDGEMENT,
    ).rows  # fmt: skip
    verdicts = {row.policy: row.verdict for row in rows}
    assert verdicts == {
        "full": "reference", "forecast": "baseline", "good": "better", "same": "no harm", "bad": "harm",
        "mixed": "not shown",
    }  # fmt: skip
    good = next(row for row in rows if row.policy == "good")
    assert good.p_value == 2 / 2**10
    assert good.p_holm == pytest.approx(4 * 2 / 2**10)
    assert good.ratio == pytest.approx(0.5)
    assert good.over_unlimited == pytest.approx(1.0)
    over = {row.policy: row.over_bound for row in rows}
    assert over.pop("full") is None
    assert over == pytest.approx({"good": 1.0, "forecast": 2.0, "same": 2.0, "bad": 2.6, "mixed": 2.5}, rel=0.03)
    mean = sum(sum(times) for times in base.values()) / 20
    assert good.difference_s == pytest.approx(-mean / 2)
    assert {row.policy for row in rows if row.is_inert} == {"same"}
    with pytest.raises(BadInput, match="hold 0 resumes"):
        build_matrix([], JUDGEMENT)


def test_times_of_the_references_are_compared_on_common_resumes() -> None:
    """By hand: everything takes 1.5 times the baseline, 6 times full, 3 times the bound, on whichever resumes it has.

    The third resumes of an instance, which take longest, are errors of "bad"; those of the reference of one instance,
    and of the bound of another, too.
    """
    base = {f"i{n}": [1.0, 2.0, 9.0 + n] for n in range(10)}
    seen = []
    for policy, factor in (("full", 0.25), ("forecast", 1.0), ("good", 0.5), ("bad", 1.5)):
        cells = made(policy, {name: [factor * one for one in times] for name, times in base.items()})
        lost = {"full": {"i0/0"}, "good": {"i1/1"}, "bad": {f"i{n}/2" for n in range(10)}}.get(policy, set())
        seen += [replace(one, outcome=None, error="not exact") if one.fixture_id in lost else one for one in cells]
    (bad,) = (row for row in build_matrix(seen, JUDGEMENT).rows if row.policy == "bad")
    assert (bad.n_resumes, bad.n_errors) == (20, 10)
    assert bad.ttft_s == pytest.approx(1.5 * 1.5)
    assert (bad.ratio, bad.over_unlimited, bad.over_bound) == pytest.approx((1.5, 6.0, 3.0))


def test_ledgers_alone_are_judged_as_their_runs_recorded() -> None:
    """Four instances: the least p is 2 / 2^4, so that alpha decides what the same differences are called."""
    from factories import make_manifest, make_observation

    def recorded(bound: str | None) -> Manifest:
        verdict = {"baseline": "forecast", "bound": bound, "margin": 0.05, "seed": 0}
        return make_manifest(config={"verdict": verdict, "stats": {"alpha": 0.2}})

    times = {f"i{n}": [1.0] for n in range(4)}
    seen = (*made("forecast", times), *made("good", {name: [0.5] for name in times}))
    ledgers = LedgerContents(observations=seen, manifests=(recorded(None), recorded("good")), looks=(), damaged=(),
                             disagreements=(), duplicates=0)  # fmt: skip
    for alpha, verdict in ((0.2, "better"), (0.1, "no harm"), (0.05, "not shown")):
        matrix = recorded_matrix(ledgers, alpha=alpha)
        assert matrix is not None
        assert [row.verdict for row in matrix.rows] == ["baseline", verdict]
        assert matrix.rows[0].over_bound == pytest.approx(2.0)
        assert matrix.remarks == ("the runs recorded different verdicts (bound): the latest is used",)
    later = replace(ledgers.manifests[1], created="2031-01-02T00:00:00+00:00")
    folders = replace(ledgers, manifests=(later, ledgers.manifests[0]))  # that of the later run first, as by hash
    matrix = recorded_matrix(folders, alpha=0.05)
    assert matrix is not None
    assert matrix.judgement.bound == "good"
    with pytest.raises(BadInput, match="no run recorded a verdict"):
        recorded_matrix(replace(ledgers, manifests=(make_manifest(),)), alpha=0.05)
    assert recorded_matrix(replace(ledgers, observations=(make_observation(),)), alpha=0.05) is None


def test_a_trace_without_a_file_is_one_message() -> None:
    with pytest.raises(
        BadInput, match=r"workload.trace.path is required and not given; give it as workload.trace.path="
    ):
        plan_campaign(composed("experiment=warm_resume", "workload=[trace]"))


def test_the_benchmark_times_every_policy_as_configured(capsys: pytest.CaptureFixture[str]) -> None:
    """All but those that need the future: the references."""
    configured = {}
    for file in (CONF / "snapshot_policy").glob("*.yaml"):
        for name, entry in OmegaConf.load(file).items():
            if isinstance(entry, DictConfig) and "_target_" in entry and name != "clairvoyant":
                configured[name] = instantiate(entry)
    assert len(configured) == 14
    assert configured | {"marconi(alpha=0)": Marconi("winner", 0.0)} == bench.RULES
    bench.main(["--slots", "16", "4", "--operations", "40", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0] == ["policy", "4", "16", "growth"]
    assert {row[0] for row in rows[1:]} == set(bench.RULES)
    seconds = json.loads(lines[-1])["seconds_per_operation"]
    for name, small, large, growth in rows[1:]:
        assert [f"{1e6 * seconds[name][slots]:.1f}" for slots in ("4", "16")] == [small, large]
        assert growth == f"{seconds[name]['16'] / seconds[name]['4']:.1f}"
