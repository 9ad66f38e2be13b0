"""Decay horizons against decays multiplied out token by token."""

from __future__ import annotations

import math

import pytest
import torch

from vorn.records import BadInput
from vorn.snapshots.decay import envelopes, horizons
from vorn.snapshots.tiny import tiny_model


def test_a_horizon_is_where_a_thousandth_is_left() -> None:
    decays = [0.5, 0.9, 0.958, 0.9995]
    counted = []
    for decay in decays:
        left, tokens = 1.0, 0
        while left > 1e-3:
            left, tokens = left * decay, tokens + 1
        counted.append(tokens)
    for decay, tokens in zip(decays, counted, strict=True):
        assert math.ceil(horizons(torch.tensor([decay], dtype=torch.float64)).median) == tokens
    found = horizons(torch.tensor(decays, dtype=torch.float64))
    assert (found.heads, found.share_within_512, found.share_beyond_8192) == (4, 0.75, 0.25)


@pytest.mark.parametrize(("family", "heads"), [("qwen3_5", 3 * 4), ("mamba2", 3 * 8)])
def test_envelopes_follow_the_formula_head_by_head(family: str, heads: int) -> None:
    model = tiny_model(family)
    wanted = []
    weights = dict(model.named_parameters())
    for name, rate in weights.items():
        if name.endswith("A_log"):
            bias = weights[name.replace("A_log", "dt_bias")]
            for a, b in zip(rate.tolist(), bias.tolist(), strict=True):
                wanted.append(math.exp(-math.exp(a) * math.log1p(math.exp(b))))
    assert len(wanted) == heads
    assert envelopes(model).tolist() == pytest.approx(wanted, rel=1e-9)


def test_a_model_without_such_heads_is_refused() -> None:
    with pytest.raises(BadInput, match="MambaForCausalLM has no head with A_log and dt_bias"):
        envelopes(tiny_model("mamba"))
