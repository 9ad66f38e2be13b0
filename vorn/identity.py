"""What makes an evaluation: all that its cells share and that can change an outcome. Imports no torch."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from vorn.settings import resolved

_IF_GIVEN = ("template_arguments", "quantization")  # what a model is not given makes no other evaluation of it


def evaluation_identity(cfg: DictConfig, *, weights_digest: str, dtype: str) -> dict[str, Any]:
    """All that the cells of a panel share and that can change an outcome.

    Args:
        cfg: the composed configuration.
        weights_digest: hash of the model's weights and tokenizer; its name and place are no part of the identity, so
            that a checkpoint may be moved.
        dtype: the dtype the model really runs in; `model.dtype=auto` differs between machines.
    Returns: a JSON-ready mapping. How many fixtures are asked for is no part of it, so that a run can be extended.
    """
    model = resolved(cfg.model)
    fields = [f for f in ("attn_implementation", "chat_template", *_IF_GIVEN) if f not in _IF_GIVEN or model[f]]
    task = {key: value for key, value in resolved(cfg.task).items() if key != "fixtures"}
    # An evaluation without likelihoods has none that could be added: asked for, they make another one.
    outcome = {"outcome": resolved(cfg.outcome)} if cfg.outcome.nll else {}
    return {
        "model": {f: model[f] for f in fields} | {"weights": weights_digest, "dtype": dtype},
        "task": task,
        **outcome,
    }
