"""Positions re-assigned inside the cache: kept entries move up to 0, 1, 2 ..., and decoding goes on after them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vorn.kv.buffers import LayerBuffer
from vorn.kv.retention import Kept
from vorn.kv.rotary import Rotation, rotate
from vorn.records import BadInput


def vacated(kept: Kept | None, first_new: int) -> int:
    """Positions that decoding moves back by: those below `first_new` that a compact cell did not keep; 0 for others.

    Raises: BadInput if a compact cell keeps several sets, whose entries would end at different positions.
    """
    if kept is None or not kept.is_compact:
        return 0
    if len(kept.positions) > 1 or len(kept.positions[0]) > 1:
        raise BadInput(
            "positions=compact needs one set for all layers and heads, since a new token has one position for all; "
            "choose allocation=uniform, or a policy without positions=compact"
        )
    rows = kept.positions[0]
    return first_new - int(((rows >= 0) & (rows < first_new)).sum())


def compact(layers: Sequence[LayerBuffer], row: int, rotations: Sequence[Rotation], prompt_entries: int) -> None:
    """Turns the kept keys of one row back from their positions in the prompt to those in the cache.

    Args:
        layers: the group's buffers, changed in place.
        row: of the group.
        rotations: of every layer.
        prompt_entries: kept entries of the row, in its first slots.
    """
    for buffer, rotation in zip(layers, rotations, strict=True):
        if buffer.positions is None:
            raise ValueError("the prefill's own cache cannot be compacted: gather the entries first")
        kept = buffer.positions[row, 0, :prompt_entries]
        keys = buffer.keys[row, :, :prompt_entries]
        keys.copy_(turned(keys, rotation, torch.arange(prompt_entries, device=kept.device) - kept))


def turned(keys: Tensor, rotation: Rotation, by: Tensor) -> Tensor:
    """Keys [Hkv, n, D] as they were if each stood `by` [n] positions later, or earlier where it is negative; float32.

    RoPE turns a key by an angle proportional to its position, so that a key at p becomes one at i by turning it by the
    angle of i - p; a scale of RoPE's tables (YaRN) is already in the key.
    """
    cos, sin = rotation.tables(by)
    scale = (cos.square() + sin.square()).sqrt()
    return rotate(keys.float(), (cos / scale, sin / scale))
