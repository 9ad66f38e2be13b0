"""How long recurrent heads remember, from their parameters: `python -m vorn.snapshots.decay MODEL`.

A head of a gated delta net or of Mamba 2 multiplies its state at each token by
a = exp(-exp(A_log) softplus(x + dt_bias)) for an input-dependent x. At x = 0 that is the head's envelope; its horizon
is the number of tokens after which less than a thousandth is left, ln(1e-3) / ln(a). Inputs move it both ways: this is
a baseline, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vorn.records import BadInput
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


def envelopes(model: nn.Module) -> Tensor:
    """Decay per token of every head at zero input: [heads of all layers], float64.

    Raises: BadInput for a model without heads that decay so.
    """
    found = []
    for module in model.modules():
        rate, bias = getattr(module, "A_log", None), getattr(module, "dt_bias", None)
        if isinstance(rate, Tensor) and isinstance(bias, Tensor) and rate.shape == bias.shape and rate.dim() == 1:
            found.append(torch.exp(-rate.double().exp() * softplus(bias.double())))
    if not found:
        raise BadInput(
            f"model {type(model).__name__} has no head with A_log and dt_bias, one number each: legal are gated delta "
            "nets and Mamba 2; Mamba 1 decays by channel and state; choose another model"
        )
    return torch.cat(found).detach()


def horizons(decays: Tensor) -> Horizons:
    """The summary of decays in (0, 1), [heads]."""
    tokens = torch.log(torch.tensor(1e-3, dtype=torch.float64)) / torch.log(decays)
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


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the summary as JSON. Exit code: 0 done, 1 bad input."""
    parser = argparse.ArgumentParser(prog="python -m vorn.snapshots.decay", description=__doc__)
    parser.add_argument("model", help="tiny/FAMILY, a local folder, or a Hub id")
    try:
        print(json.dumps(asdict(horizons(envelopes(load_model(parser.parse_args(argv).model, revision=None))))))
    except BadInput as error:
        print(f"vorn.snapshots.decay: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
