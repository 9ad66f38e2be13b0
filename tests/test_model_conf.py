"""Every yaml file of conf/model: complete, and different from the others only in what its family needs."""

from __future__ import annotations

import pytest
from composing import CONF, composed

from vorn.identity import evaluation_identity
from vorn.panel import plan_panel
from vorn.records import BadInput, digest
from vorn.settings import resolved

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def identity(*overrides: str) -> str:
    return digest(evaluation_identity(composed(*overrides, "model.id=x"), weights_digest="w", dtype="float32"))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_every_setting_and_its_own_name(model: str) -> None:
    got, keys = resolved(composed(f"model={model}", "model.id=x").model), set(composed("model=hf", "model.id=x").model)
    assert set(got) == keys
    assert got["name"] == ("x" if model == "hf" else model)
    assert got["trust_remote_code"] is False


def test_a_template_argument_is_replaced_and_the_date_stays() -> None:
    arguments = composed("model=qwen3", "model.template_arguments.enable_thinking=true").model.template_arguments
    assert dict(arguments) == {"date_string": "26 Jul 2024", "enable_thinking": True}


def test_what_changes_outcomes_makes_another_evaluation() -> None:
    settings = (
        "model.chat_template=false",
        "model.template_arguments.enable_thinking=true",
        "model.quantization={quant_method: fp8}",
        "model.attn_implementation=eager",
    )
    ids = [identity("model=hf"), *(identity("model=hf", setting) for setting in settings)]
    assert len(set(ids)) == len(ids)
    for setting in ("model.revision=main", "model.device_map=auto", "model.name=other"):
        assert identity("model=hf", setting) == ids[0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.template_arguments=4", r"model.template_arguments=4 is not legal; give null or a mapping such as"),
        ("model.device_map=balanced", r"model.device_map='balanced' is not legal; give null or a mapping .* auto"),
        ("model.quantization=int8", r"model.quantization='int8' is not legal; .*quant_method: bitsandbytes"),
        ("model.trust_remote_code=please", r"trust_remote_code"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(setting: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan_panel(composed(setting))
