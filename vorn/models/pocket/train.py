"""Train a pocket model that really retrieves: matching by content first, then the template, then haystack and length.

`python -m vorn.models.pocket.train --family llama --out DIR` starts or resumes (the checkpoint lies in `--work`), and
writes the checkpoint in the Hugging Face layout, with its tokenizer, when it is done. CPU is enough; the seed fixes the
data.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vorn.models.pocket import softcap
from vorn.models.pocket.families import FAMILIES, kind
from vorn.models.pocket.rows import IGNORED, Batch, NeedleLevel, NeedleRows, successor_rows
from vorn.models.pocket.tokenizer import build
from vorn.records import BadInput

LEVELS = (
    NeedleLevel(length=320, haystack=0.1),
    *(NeedleLevel(length=length, haystack=0.9) for length in (512, 768)),
    *(NeedleLevel(length=length, haystack=1.0) for length in (1088, 1600, 2176)),
)
RATES = (1.0, 0.6, 0.4, 0.3, 0.3, 0.3)  # share of the peak learning rate, by level
LEAST_ROWS = 8  # of a batch: Muon's steps are as long for a noisy gradient as for a clear one
PASSED = 0.93  # running share of values found at which the next level begins
SYMBOLS = 3600  # of the vocabulary, for successor maps


@dataclass
class Progress:
    """Where training stands; saved with the weights."""

    tokens: int = 0
    step: int = 0
    level: int = 0  # index into LEVELS
    accuracy: float = 0.0  # running, of what is being learned
    seconds: float = 0.0


class Curriculum:
    """Chooses the next batch from the progress so far."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int, batch_tokens: int, longest: int) -> None:
        self.levels = [level for level in LEVELS if level.length <= longest]
        self.rng = np.random.default_rng(seed)
        self.needles = NeedleRows(tokenizer, seed)
        self.symbols = np.arange(len(tokenizer) - SYMBOLS, len(tokenizer))
        self.batch_tokens = batch_tokens

    def batch(self, progress: Progress) -> tuple[Batch, bool]:
        """The next batch, and whether its accuracy counts for the progress."""
        if self.rng.random() < (0.3 if progress.level == 0 else 0.03):
            return successor_rows(self.rng, self.batch_tokens // 128, 128, self.symbols), False
        # Half of the batches are from any level so far, so that nothing learned is lost.
        newest = progress.level
        chosen = newest if self.rng.random() < 0.5 else int(self.rng.integers(0, newest + 1))
        level = self.levels[chosen]
        return self.needles.batch(max(LEAST_ROWS, self.batch_tokens // level.length), level), chosen == newest

    def advance(self, progress: Progress, correct: float) -> None:
        """Update the running accuracy, and move on when it is high enough."""
        progress.accuracy = 0.98 * progress.accuracy + 0.02 * correct
        if progress.accuracy > PASSED and progress.level + 1 < len(self.levels):
            progress.level, progress.accuracy = progress.level + 1, 0.8


def loss_and_accuracy(model: PreTrainedModel, ids: Tensor, labels: Tensor, counted: Tensor) -> tuple[Tensor, float]:
    """Cross entropy at the supervised positions, and the share of the `counted` ones among them predicted right."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    at = labels != IGNORED
    logits = model.lm_head(hidden[at])
    if cap := getattr(model.config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    right = (logits.argmax(-1) == labels[at])[counted[at]]
    return F.cross_entropy(logits.float(), labels[at]), right.float().mean().item()


def optimizers(model: PreTrainedModel, matrix_lr: float, other_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms; `peak` is each group's full rate."""
    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    known = {id(p) for p in inside}
    rest = [p for p in model.parameters() if id(p) not in known]
    made: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inside, lr=matrix_lr, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer, peak in zip(made, (matrix_lr, other_lr), strict=True):
        optimizer.param_groups[0]["peak"] = peak
    return made


def schedule(progress: Progress, total: int) -> float:
    """Share of the peak learning rate: warm-up over 100k tokens, then by level, linear to zero in the last 60 %."""
    left = max(0.0, (total - progress.tokens) / (0.6 * total))
    return min(1.0, (progress.tokens + 1) / 100_000, left) * RATES[progress.level]


class Run:
    """One training run: model, optimizers, curriculum and progress, saved together and resumed together."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.tokenizer = build()
        self.model = FAMILIES[args.family](self.tokenizer, args.seed)
        # Soft-capped scores have no SDPA form.
        capped = getattr(self.model.config, "attn_logit_softcapping", None) is not None
        self.long_attention = softcap.NAME if capped else "sdpa"
        self.optimizers = optimizers(self.model, args.matrix_lr, args.other_lr)
        self.curriculum = Curriculum(self.tokenizer, args.seed, args.batch_tokens, args.longest)
        self.progress = Progress()
        tokens = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        self.first_chunks = [number for number, token in enumerate(tokens) if kind(token) == 0]
        self.state_file = args.work / "state.pt"

    def save(self) -> None:
        """Write the whole state; a kill at any moment leaves the previous one intact."""
        self.args.work.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "curriculum": (self.curriculum.rng, self.curriculum.needles.rng),
            "progress": dataclasses.asdict(self.progress),
        }
        temporary = self.state_file.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.state_file)

    def resume(self) -> bool:
        """Continue from the saved state, if there is one; raises BadInput if it is another family's."""
        if not self.state_file.exists():
            return False
        state = torch.load(self.state_file, weights_only=False)
        if state["model"].keys() != self.model.state_dict().keys():
            raise BadInput(
                f"--work={self.args.work}: the state in it is of another family than --family={self.args.family}; "
                "give each family a folder of its own"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.curriculum.rng, self.curriculum.needles.rng = state["curriculum"]
        self.progress = Progress(**state["progress"])
        return True

    def step(self) -> float:
        """One batch: forward in bfloat16 where it helps, backward, update. Returns the loss."""
        (ids, labels), counts = self.curriculum.batch(self.progress)
        # The first chunk of a value shows whether it was found; the others follow from the one before.
        counted = np.isin(labels, self.first_chunks)
        # Short rows are faster with plain matrix products in bfloat16 than with the CPU's fused kernel.
        self.model.set_attn_implementation("eager" if ids.shape[1] <= 256 else self.long_attention)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, correct = loss_and_accuracy(self.model, *map(torch.from_numpy, (ids, labels, counted)))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        share = schedule(self.progress, self.args.tokens)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
            optimizer.step()
            optimizer.zero_grad()
        self.progress.tokens += ids.size
        self.progress.step += 1
        if counts:
            self.curriculum.advance(self.progress, correct)
        return loss.item()

    def train(self) -> None:
        """Until the token budget is spent, saving every minute."""
        saved = printed = clock = time.monotonic()
        while self.progress.tokens < self.args.tokens:
            loss = self.step()
            now = time.monotonic()
            self.progress.seconds += now - clock
            clock = now
            if now - printed > 10:
                print(json.dumps({**dataclasses.asdict(self.progress), "loss": round(loss, 4)}), flush=True)
                printed = now
            if now - saved > 60:
                self.save()
                saved = now
        self.save()

    def export(self) -> None:
        """Write the checkpoint as `from_pretrained` reads it."""
        self.model.save_pretrained(self.args.out)
        self.tokenizer.save_pretrained(self.args.out)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished checkpoint")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="llama")
    parser.add_argument("--work", type=Path, help="folder of the resumable state, checkpoints/pocket_FAMILY by default")
    parser.add_argument("--tokens", type=int, default=13_000_000, help="tokens to train on")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    lengths = [level.length for level in LEVELS]
    parser.add_argument("--longest", type=int, choices=lengths, default=max(lengths), help="rows of the last level")
    parser.add_argument("--matrix-lr", type=float, default=1e-2, help="peak rate of Muon")
    parser.add_argument("--other-lr", type=float, default=3e-3, help="peak rate of AdamW")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    args.work = args.work or Path("checkpoints") / f"pocket_{args.family}"
    torch.set_num_threads(args.threads)
    run = Run(args)
    try:
        run.resume()
    except BadInput as error:
        raise SystemExit(f"error: {error}") from error
    run.train()
    run.export()


if __name__ == "__main__":
    main()
