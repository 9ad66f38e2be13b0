"""Chance by the rule of the vorn-mat paper's harness: a new sample at every step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.records import BadInput


@dataclass(frozen=True)
class Redraw:
    """A uniform sample of the tokens that no guard holds, drawn anew at each step of contract=reforward.

    Formula: 1 for the budget's free places, drawn without replacement from the tokens between the guards by NumPy's
    default generator, 0 for the others. It is seeded by the first 8 bytes, big-endian, of the SHA-256 of the prompt's
    UTF-8, `seed` in decimal, and the absolute positions of the active tokens as 64-bit integers.
    Published default: seed = 17. Its guards are those of the other policies, 1 first and 16 last tokens.
    GQA: one set for all layers and heads.
    Departure: in the harness seed = 0 means 17; here it is 0.
    Source: vorn-mat 2589773, local_exec.py and live_eviction.py.
    """

    seed: int

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Nothing."""
        return frozenset()

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1, 1, T] float32, 0 or 1."""
        step = signals.step
        if step is None:
            raise BadInput("policy=redraw draws at each step of contract=reforward; select that, or policy=random")
        tokens = len(step.positions)
        free = np.arange(step.sinks, tokens - step.recent)
        material = step.text.encode() + str(self.seed).encode() + np.asarray(step.positions, dtype=np.int64).tobytes()
        generator = np.random.default_rng(int.from_bytes(hashlib.sha256(material).digest()[:8], "big"))
        drawn = generator.choice(free, size=step.budget_tokens - step.sinks - step.recent, replace=False)
        scores = torch.zeros(tokens, dtype=torch.float32)
        scores[torch.from_numpy(drawn)] = 1.0
        return scores.to(signals.device)[None, None]
