"""What a resume without a snapshot would be worth: `python -m vorn.snapshots.window MODEL --tau 64 256 1024`.

A window replay restores nothing: from an empty recurrent state it reads the last tau tokens before the match, over the
exact keys and values of everything before them, and goes on from the state that this leaves. It costs tau tokens of
replay wherever the nearest snapshot lies, and it is an approximation: heads that remember longer than tau have lost
something. This holds it against the exact state, and against what both lead the model to say.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor

from vorn.records import BadInput
from vorn.snapshots.material import prompts
from vorn.snapshots.states import KV, Reader, State, emptied, keys_and_values, probe, restore, snapshot
from vorn.snapshots.tiny import load_model

# What the command compares with must be exact itself; the executed engine's own numbers.
_PROBE_TOKENS, _PROBE_TOLERANCE = 96, 2e-5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """One window over all prompts; the fields are the columns of window.csv."""

    tau: int  # tokens read from an empty state
    matched: int  # tokens whose keys and values are known
    prompts: int
    cosine_min: float  # of a head's approximate and exact state, least over heads and prompts
    cosine_median: float
    kl_mean: float  # nats, of the exact distribution of the first new token from the approximate one
    kl_max: float
    logit_difference_max: float
    greedy_equal: int  # prompts after which all greedy tokens are those of the exact resume


def window_state(reader: Reader, ids: Sequence[int], matched: int, tau: int, exact: State, kv: KV) -> State:
    """The recurrent state after `matched` tokens of a model that has read the last `tau` of them only.

    Args:
        reader: of the model.
        ids: of the prompt.
        matched: tokens whose keys and values are known.
        tau: tokens read again; 1 <= tau <= matched. With all of them the state is exact.
        exact: any state of the model, for its shapes.
        kv: of the prompt.
    """
    start = matched - tau
    cache = restore(reader, emptied(exact, start), kv) if start else reader.fresh()
    reader.read(ids[start:matched], cache, start)
    return snapshot(cache, matched)


def head_cosines(one: State, other: State) -> Tensor:
    """Cosine of two states head by head: [heads of all layers], float64; recurrent tensors are [1, heads, ., .].

    Two empty heads are equal: 1.
    """
    found = []
    for left, right in zip(one.layers, other.layers, strict=True):
        for index, state in (left[1] if left else {}).items():
            mirror = right[1][index] if right else None
            if state is not None and mirror is not None:
                a, b = state[0].flatten(1).double(), mirror[0].flatten(1).double()
                norms = a.norm(dim=1) * b.norm(dim=1)
                cosine = (a * b).sum(dim=1) / norms.clamp_min(torch.finfo(torch.float64).tiny)
                found.append(torch.where((a == b).all(dim=1), 1.0, cosine))
    return torch.cat(found)


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """One window on one prompt."""

    cosines: Tensor
    kl: float
    difference: float
    is_equal: bool


def _compare(reader: Reader, ids: Sequence[int], matched: int, taus: Sequence[int], new_tokens: int) -> list[_Seen]:
    """Every window against the exact state, on one prompt."""
    cache = reader.fresh()
    reader.read(ids[:matched], cache, 0)
    exact, kv = snapshot(cache, matched), keys_and_values(cache)

    def go_on(state: State) -> tuple[Tensor, list[int]]:
        resumed = restore(reader, state, kv)
        logits = reader.read(ids[matched:], resumed, matched)
        return logits, reader.generate(logits, resumed, len(ids), new_tokens)

    logits, tokens = go_on(exact)
    found = []
    for tau in taus:
        state = window_state(reader, ids, matched, tau, exact, kv)
        other, said = go_on(state)
        p, q = (one.double().log_softmax(dim=0) for one in (logits, other))
        found.append(
            _Seen(
                cosines=head_cosines(state, exact),
                kl=max(0.0, float((p.exp() * (p - q)).sum())),  # rounding may bring equal ones below 0
                difference=float((logits - other).abs().max()),
                is_equal=said == tokens,
            )
        )
    return found


def fidelities(
    reader: Reader, texts: Sequence[Sequence[int]], taus: Sequence[int], *, matched: int, new_tokens: int
) -> list[Fidelity]:
    """One row per window.

    Args:
        reader: of a model that resumes exactly: see `vorn.snapshots.states.probe`.
        texts: prompts of equal length; what follows the match is read after the resume.
        taus: windows, in tokens.
        matched: tokens of each prompt that are known.
        new_tokens: greedy tokens compared.
    Raises: BadInput for a window or a match outside the prompt.
    """
    shortest = min(map(len, texts))
    if not 1 <= matched < shortest:
        raise BadInput(f"--matched={matched} of prompts of {shortest} tokens: legal is 1 to {shortest - 1}")
    for tau in taus:
        if not 1 <= tau <= matched:
            raise BadInput(f"--tau={tau}: legal is 1 to --matched={matched}, the tokens that could be read again")
    if new_tokens < 1:
        raise BadInput(f"--new={new_tokens}: legal is at least 1 greedy token to compare")
    seen = [_compare(reader, ids, matched, taus, new_tokens) for ids in texts]
    rows = []
    for tau, group in zip(taus, zip(*seen, strict=True), strict=True):
        cosines = torch.cat([one.cosines for one in group]).tolist()
        rows.append(
            Fidelity(
                tau=tau,
                matched=matched,
                prompts=len(texts),
                cosine_min=min(cosines),
                cosine_median=median(cosines),
                kl_mean=mean(one.kl for one in group),
                kl_max=max(one.kl for one in group),
                logit_difference_max=max(one.difference for one in group),
                greedy_equal=sum(one.is_equal for one in group),
            )
        )
    return rows


def _write(rows: Sequence[Fidelity], out_dir: Path) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in dataclasses.fields(Fidelity)]
    with (out_dir / "window.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and, as the last line, everything as JSON. Exit code: 0 done, 1 bad input."""
    parser = argparse.ArgumentParser(prog="python -m vorn.snapshots.window", description=__doc__)
    parser.add_argument("model", help="tiny/FAMILY, a local folder, or a Hub id")
    parser.add_argument("--tau", type=int, nargs="+", default=[16, 64, 128, 256], help="windows, in tokens")
    parser.add_argument("--matched", type=int, default=512, help="tokens whose keys and values are known (512)")
    parser.add_argument("--tokens", type=int, default=528, help="of each prompt (528)")
    parser.add_argument("--prompts", type=int, default=8, help="how many (8)")
    parser.add_argument("--new", type=int, default=16, help="greedy tokens compared (16)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="what the prompts are cut from, not random tokens")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for window.csv")
    chosen = parser.parse_args(argv)
    try:
        model = load_model(chosen.model, revision=None)
        vocabulary = int(model.config.get_text_config().vocab_size)
        texts = prompts(chosen.model, vocabulary, tokens=chosen.tokens, count=chosen.prompts, text=chosen.text)
        reader = Reader(model)
        probe(reader, _PROBE_TOKENS, _PROBE_TOLERANCE, vocabulary)
        rows = fidelities(reader, texts, chosen.tau, matched=chosen.matched, new_tokens=chosen.new)
    except BadInput as error:
        print(f"vorn.snapshots.window: {error}", file=sys.stderr)
        return 1
    print(f"{'tau':>6} {'cosine: least':>14} {'median':>9} {'KL: mean':>10} {'max':>9} {'logit':>8}  greedy equal")
    for row in rows:
        print(
            f"{row.tau:6} {row.cosine_min:14.6f} {row.cosine_median:9.6f} {row.kl_mean:10.2g} {row.kl_max:9.2g} "
            f"{row.logit_difference_max:8.2g}  {row.greedy_equal} of {row.prompts}"
        )
    if chosen.out:
        _write(rows, chosen.out)
    print(json.dumps([dataclasses.asdict(row) for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
