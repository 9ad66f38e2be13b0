"""How long recurrent heads remember: `python -m vorn.snapshots.decay MODEL [--prefill TOKENS] [--out DIR]`.

A head of a gated delta net or of Mamba 2 multiplies its state at each token by
a = exp(-exp(A_log) softplus(x + dt_bias)) for an input-dependent x. At x = 0 that is the head's envelope, from its
parameters alone; a prefill gives the decays that real inputs make. A horizon is the number of tokens after which less
than a thousandth is left, ln(1e-3) / ln(a), with the geometric mean of a over the tokens of a prefill.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.overrides import TorchFunctionMode

from vorn.records import BadInput
from vorn.snapshots.decay_files import HeadRow, write_heads
from vorn.snapshots.material import prompts
from vorn.snapshots.states import Reader
from vorn.snapshots.tiny import load_model

LONG = 8192  # tokens; the source's mark for heads that no window replaces


@dataclass(frozen=True, kw_only=True)
class Horizons:
    """Summary over the heads of all linear layers; horizons are tokens."""

    heads: int
    median_decay: float
    median: float
    p90: float
    p99: float
    share_within_512: float
    share_within_2048: float
    share_beyond_8192: float


def decaying_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold heads with a decay each, by their names in the model.

    Raises: BadInput for a model without.
    """
    found = {}
    for name, module in model.named_modules():
        rate, bias = getattr(module, "A_log", None), getattr(module, "dt_bias", None)
        if isinstance(rate, Tensor) and isinstance(bias, Tensor) and rate.shape == bias.shape and rate.dim() == 1:
            found[name] = module
    if not found:
        raise BadInput(
            f"model {type(model).__name__} has no head with A_log and dt_bias, one number each: legal are gated delta "
            "nets and Mamba 2; Mamba 1 decays by channel and state; choose another model"
        )
    return found


def envelopes(model: nn.Module) -> dict[str, Tensor]:
    """Decay per token of every head at zero input: [heads] float64, by layer. Raises: BadInput without such heads."""
    return {
        name: torch.exp(_log_decays(layer, softplus(_of(layer, "dt_bias"))))
        for name, layer in decaying_layers(model).items()
    }


def prefill_log_decays(reader: Reader, ids: Sequence[int]) -> dict[str, Tensor]:
    """The logarithm of every head's decay at every token of one prefill: [T, heads] float64, by layer.

    Raises: BadInput without such heads, or for a model that computes its steps in a fused kernel, out of sight.
    """
    layers = decaying_layers(reader.model)
    watch = _Steps()
    hooks = [hook for layer in layers.values() for hook in watch.hooks(layer)]
    try:
        with watch:
            reader.read(ids, reader.fresh(), 0)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, layer in layers.items():
        heads = _of(layer, "A_log").numel()
        seen = [one for one in watch.seen.get(layer, []) if one.shape == (1, len(ids), heads)]
        if len(seen) != 1:
            raise BadInput(
                f"layer {name} of {type(reader.model).__name__} computed {len(seen)} steps of shape (1, {len(ids)}, "
                f"{heads}) with softplus, and 1 is legal: a fused kernel hides them; run it on a CPU without one"
            )
        found[name] = _log_decays(layer, seen[0][0].double())
    return found


class _Steps(TorchFunctionMode):
    """Keeps what softplus gives while a watched layer runs: the step sizes, whatever the family scales them with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[nn.Module, list[Tensor]] = {}
        self._running: list[nn.Module] = []

    def hooks(self, layer: nn.Module) -> list[Any]:
        """Have the layer watched; what is returned ends it."""
        return [
            layer.register_forward_pre_hook(lambda module, _: self._running.append(module)),
            layer.register_forward_hook(lambda *_: self._running.pop() and None),
        ]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is softplus and self._running:
            self.seen.setdefault(self._running[-1], []).append(result.detach())
        return result


def _log_decays(layer: nn.Module, steps: Tensor) -> Tensor:
    """-exp(A_log) times the steps [..., heads], which Mamba 2 holds within its time_step_limit."""
    low, high = getattr(layer, "time_step_limit", (0.0, math.inf))
    return -_of(layer, "A_log").exp() * steps.clamp(low, high)


def _of(layer: nn.Module, name: str) -> Tensor:
    parameter: Tensor = getattr(layer, name)
    return parameter.detach().double()


def horizons(decays: Tensor) -> Horizons:
    """The summary of decays in (0, 1), [heads]."""
    tokens = horizon_tokens(decays)
    median, p90, p99 = (float(tokens.quantile(q)) for q in (0.5, 0.9, 0.99))
    return Horizons(
        heads=decays.numel(),
        median_decay=float(decays.quantile(0.5)),
        median=median,
        p90=p90,
        p99=p99,
        share_within_512=float((tokens <= 512).double().mean()),
        share_within_2048=float((tokens <= 2048).double().mean()),
        share_beyond_8192=float((tokens > LONG).double().mean()),
    )


def horizon_tokens(decays: Tensor) -> Tensor:
    """Tokens after which less than a thousandth is left, of decays in (0, 1)."""
    return math.log(1e-3) / torch.log(decays)


def head_rows(envelope: Mapping[str, Tensor], prefill: Mapping[str, Tensor] | None) -> list[HeadRow]:
    """One row per head; `prefill`: log decays [T, heads] by layer."""
    rows = []
    for name, decays in envelope.items():
        means = prefill[name].mean(dim=0).exp() if prefill else None
        for head, decay in enumerate(decays):
            mean = means[head] if means is not None else None
            rows.append(
                HeadRow(
                    layer=name,
                    head=head,
                    envelope_decay=float(decay),
                    envelope_horizon=float(horizon_tokens(decay)),
                    prefill_decay=None if mean is None else float(mean),
                    prefill_horizon=None if mean is None else float(horizon_tokens(mean)),
                )
            )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the summaries as JSON. Exit code: 0 done, 1 bad input."""
    parser = argparse.ArgumentParser(prog="python -m vorn.snapshots.decay", description=__doc__)
    parser.add_argument("model", help="tiny/FAMILY, a local folder, or a Hub id")
    parser.add_argument("--prefill", type=int, metavar="TOKENS", help="also measure one prefill of so many tokens")
    parser.add_argument("--text", type=Path, metavar="FILE", help="what the prefill reads, instead of random tokens")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for decay.csv, decay.png and decay.svg")
    chosen = parser.parse_args(argv)
    try:
        if chosen.text and chosen.prefill is None:
            raise BadInput(f"--text={str(chosen.text)!r} without --prefill: legal is both; say how many tokens to read")
        if chosen.prefill is not None and chosen.prefill < 1:
            raise BadInput(f"--prefill={chosen.prefill}: legal is at least 1 token; leave it out for parameters alone")
        model = load_model(chosen.model, revision=None)
        envelope, prefill = envelopes(model), None
        if chosen.prefill is not None:
            vocabulary = int(model.config.get_text_config().vocab_size)
            (ids,) = prompts(chosen.model, vocabulary, tokens=chosen.prefill, count=1, text=chosen.text)
            prefill = prefill_log_decays(Reader(model), ids)
    except BadInput as error:
        print(f"vorn.snapshots.decay: {error}", file=sys.stderr)
        return 1
    summary = {"parameters": asdict(horizons(torch.cat([*envelope.values()])))}
    if prefill is not None:
        summary["prefill"] = asdict(horizons(torch.cat([one.mean(dim=0).exp() for one in prefill.values()])))
    if chosen.out:
        write_heads(head_rows(envelope, prefill), chosen.out)
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
