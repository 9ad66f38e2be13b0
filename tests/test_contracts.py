"""What every contract promises the panel: its failure is its own, and cells keep the ids that older ledgers know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import make_observation

from tests.composing import composed
from tests.test_ledger import edit_line, write_segment
from vorn.contracts import make_contracts
from vorn.contracts.prefill_once import PrefillOnce
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, ContractWork

MINE = "+contract.mine={_target_:tests.test_contracts.Stumbling,depth:2}"
SMALL = ("policy=[vorn]", "unit=[token]", "budget=[32]")


class Stumbling(PrefillOnce):
    """Measures the first fixture only, and never a policy called `random`."""

    def __init__(self, depth: int) -> None:
        super().__init__("refeed")
        object.__setattr__(self, "left", depth - 1)

    def check(self, cell: Any) -> None:
        if cell.policy == "random":
            raise BadInput(f"policy={cell.policy} under contract={cell.contract}: leave one of them out")

    def measure(self, work: Any) -> Any:
        self.__dict__["left"] -= 1
        if self.__dict__["left"] < 0:
            raise RuntimeError("out of depth")
        found = super().measure(work)
        return [replace(one, contract_work=ContractWork(seconds=0.5, forwards=3)) for one in found]


def test_a_contract_is_a_file_and_its_settings_are_part_of_the_cell() -> None:
    cells = plan_panel(composed(*SMALL, MINE)).pruned
    assert [cell.label for cell in cells] == ["vorn/token/32", "vorn/token/32/mine(depth=2)"]
    ids = [cell.identity["contract"] for cell in cells]
    assert ids == [["prefill_once", "refeed"], ["mine", {"depth": 2}]]
    assert cells[1].first_token == ""


def test_a_contract_refuses_cells_before_a_model_is_loaded() -> None:
    with pytest.raises(BadInput, match=r"policy=random under contract=mine\(depth=2\): leave one of them out"):
        plan_panel(composed("policy=[random]", MINE))
    with pytest.raises(BadInput, match=r"unexpected keyword argument 'width'.*give the settings of tests.test_contr"):
        plan_panel(composed(*SMALL, "+contract.mine={_target_:tests.test_contracts.Stumbling,width:2}"))


def test_equal_configurations_share_one_object() -> None:
    config = {"_target_": "vorn.contracts.prefill_once.PrefillOnce", "first_token": "refeed"}
    first, other, same = make_contracts([config, config | {"first_token": "prefill"}, dict(reversed(config.items()))])
    assert first is same
    assert first is not other


@pytest.mark.integration
def test_a_contract_that_fails_loses_no_other_cells(random_checkpoint: Path, tmp_path: Path) -> None:
    from vorn import run

    cfg = composed(
        *SMALL, MINE, "limit=3", "logger=none", "task.context_tokens=300", "task.keys=4",
        f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / 'ledgers'}",
    )  # fmt: skip
    assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 3
    (folder,) = (tmp_path / "ledgers").iterdir()
    seen = {(one.cell, one.fixture_index): one for one in read_ledger(folder).observations}
    mine = [seen["vorn/token/32/mine(depth=2)", index] for index in range(3)]
    assert [one.error for one in mine] == [None, "RuntimeError: out of depth", "RuntimeError: out of depth"]
    assert mine[0].contract_work == ContractWork(seconds=0.5, forwards=3)
    for index in range(3):
        assert seen["full", index].error is None
        assert seen["vorn/token/32", index].error is None
        assert seen["vorn/token/32", index].contract_work is None
    assert mine[0].completion == seen["vorn/token/32", 0].completion
    assert mine[0].panel_prefill_s == seen["full", 0].panel_prefill_s  # one prefill for both contracts


def test_contract_work_is_read_back_and_older_ledgers_lack_it(tmp_path: Path) -> None:
    work = ContractWork(seconds=1.5, forwards=2, read_tokens=7, written_tokens=3, prefill_is_reused=True)
    new, old = make_observation(contract_work=work), make_observation(fixture_id="f1")
    path = write_segment(tmp_path, new, old)
    edit_line(path, 3, contract_work=...)
    assert "contract_work" not in json.loads(path.read_text().splitlines()[2])
    assert read_ledger(tmp_path).observations == (new, old)
    edit_line(path, 2, contract_work={"seconds": "long"})
    with pytest.raises(BadInput, match=r"field 'evictions' of this contract_work is missing"):
        read_ledger(tmp_path)
