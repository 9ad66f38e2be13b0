"""The pocket models' architectures and their beginnings, and the training attention for soft-capped scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from vorn.models.pocket import softcap
from vorn.models.pocket.families import FAMILIES
from vorn.models.pocket.rows import IGNORED
from vorn.models.pocket.train import loss_and_accuracy


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_layer_begins_by_looking_back_one_to_eight_tokens(pocket_tokenizer: Any, family: str) -> None:
    model = FAMILIES[family](pocket_tokenizer, 1)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        ids = torch.randint(300, 3900, (1, 64), generator=torch.Generator().manual_seed(0))
        attention = model(ids, output_attentions=True).attentions[0][0]
    for head, rows in enumerate(attention):
        by_distance = torch.stack([rows.diagonal(-distance)[20:].mean() for distance in range(20)])
        assert by_distance.argmax().item() == head + 1
        assert by_distance.max() > 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_training_and_inference_agree_on_the_loss(pocket_tokenizer: Any, family: str) -> None:
    """Oracle: the class's own forward, all logits and all caps included."""
    model = FAMILIES[family](pocket_tokenizer, 2)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        model.get_input_embeddings().weight *= 20.0  # logits large enough for a cap of 30 to matter
    ids = torch.randint(300, 3900, (2, 40), generator=torch.Generator().manual_seed(1))
    labels = ids.roll(-1, 1).masked_fill(torch.arange(40) % 3 > 0, IGNORED)
    with torch.no_grad():
        expected = F.cross_entropy(model(ids).logits.flatten(0, 1), labels.flatten())
        loss, _ = loss_and_accuracy(model, ids, labels, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(loss, expected)


def test_gemma2_slides_and_caps_as_its_family_does(pocket_tokenizer: Any) -> None:
    config = FAMILIES["gemma2"](pocket_tokenizer, 0).config
    published = Gemma2Config()
    assert config.layer_types == ["sliding_attention", "full_attention"] * 2 == published.layer_types[:4]
    assert config.sliding_window == 256
    assert config.attn_logit_softcapping == published.attn_logit_softcapping
    assert config.final_logit_softcapping == published.final_logit_softcapping


def _outcome(model: PreTrainedModel, ids: torch.Tensor, attention: str) -> dict[str, torch.Tensor]:
    model.set_attn_implementation(attention)
    model.zero_grad()
    logits = model(ids, use_cache=False).logits
    logits.log_softmax(-1)[..., :7].sum().backward()
    return {"logits": logits.detach(), **{n: p.grad.clone() for n, p in model.named_parameters()}}


def test_blockwise_soft_capped_attention_is_eager_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the class's eager attention, its masks and autograd; a window below a block, and one above."""
    monkeypatch.setattr(softcap, "BLOCK", 32)
    for window, tokens in ((11, 75), (40, 101)):
        torch.manual_seed(0)
        config = Gemma2Config(
            vocab_size=60, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=5, sliding_window=window, initializer_range=0.4,
            attn_logit_softcapping=2.0, attention_bias=True,
        )  # fmt: skip
        model = Gemma2ForCausalLM(config)
        ids = torch.randint(1, 60, (2, tokens))
        expected, got = (_outcome(model, ids, attention) for attention in ("eager", softcap.NAME))
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, rtol=1e-3, atol=1e-5 * value.abs().max().item(), msg=name)


def test_the_training_attention_refuses_a_mask() -> None:
    heads = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match="masks by itself"):
        softcap.softcapped(torch.nn.Identity(), heads, heads, heads, torch.ones(1, 1, 4, 4), scaling=1.0, softcap=50.0)
