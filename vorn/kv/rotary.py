"""Rotary position embedding: what a model's layers turn queries and keys by, and turning them back."""

from __future__ import annotations

import inspect
from typing import Protocol

import torch
from torch import Tensor, nn

from vorn.records import BadInput

# Kinds whose angles depend on the length of the text, so that they are no function of the position alone.
_LENGTH_DEPENDENT = ("dynamic", "longrope")


class Rotation(Protocol):
    """The tables of one layer."""

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [n, R] float32 of n positions, of the first R of D dimensions, which alone are turned.

        Both hold a scale if the model's RoPE has one.
        """


def rotate(states: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """[..., n, D] whose first R dimensions are turned by the tables' angles: dimension d is paired with d + R / 2."""
    cos, sin = tables
    own, rest = states[..., : cos.shape[-1]], states[..., cos.shape[-1] :]
    left, right = own.chunk(2, dim=-1)
    turned = own * cos + torch.cat([-right, left], dim=-1) * sin
    return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


def rotate_back(states: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """What `rotate` made these states of, the scale undone."""
    cos, sin = tables
    square = cos.square() + sin.square()
    return rotate(states, (cos / square, -sin / square))


class LayerRotation:
    """The tables of decoder layer `layer`, computed by the model's own module.

    Raises: BadInput, when tables are asked for, if the model has no RoPE of the known kind: pairs (d, d + R / 2) of the
        first R dimensions, by angles that depend on nothing but the position.
    """

    def __init__(self, decoder: nn.Module, layer: int, head_width: int) -> None:
        self.decoder, self.layer, self.head_width = decoder, layer, head_width

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [n, R] float32 of positions [n]."""
        module = getattr(self.decoder, "rotary_emb", None)
        if module is None:
            raise self._unknown("it has none")
        types = getattr(self.decoder.config, "layer_types", None)
        takes_type = "layer_type" in inspect.signature(module.forward).parameters
        own_type = {"layer_type": types[self.layer]} if takes_type and types else {}
        kinds = module.rope_type if isinstance(module.rope_type, dict) else {"": module.rope_type}
        kind = kinds.get(own_type.get("layer_type", ""), "none")
        if kind in _LENGTH_DEPENDENT:
            raise self._unknown(f"it is {kind!r}, which depends on the length of the text")
        like = torch.zeros(1, dtype=torch.float32, device=positions.device)
        cos, sin = module(like, positions[None], **own_type)
        is_whole = cos.shape[-1] == self.head_width
        if not self._pairs_halves() or not (is_whole or self._turns_the_first(cos, sin)):
            raise self._unknown(f"it turns {cos.shape[-1]} of {self.head_width} dimensions, or other pairs")
        return cos[0], sin[0]

    def _turns_the_first(self, cos: Tensor, sin: Tensor) -> bool:
        """Whether the architecture turns the first dimensions of a head, and not others, by tables [1, n, R].

        Two positions show it; a prompt may have many.
        """
        cos, sin = cos[:, -2:], sin[:, -2:]
        own = getattr(inspect.getmodule(type(self.decoder)), "apply_rotary_pos_emb", None)
        if own is None or list(inspect.signature(own).parameters)[:4] != ["q", "k", "cos", "sin"]:
            return False
        if cos.shape[-1] > self.head_width:
            return False
        shape = (1, 1, cos.shape[1], self.head_width)
        states = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(cos.device)
        try:
            theirs, _ = own(states, states, cos, sin)
        except RuntimeError:  # it takes no tables that are narrower than a head
            return False
        return torch.allclose(theirs, rotate(states, (cos, sin)), atol=1e-5)

    def _pairs_halves(self) -> bool:
        """Whether the architecture pairs dimension d with d + D / 2; some pair neighbours."""
        own = getattr(inspect.getmodule(type(self.decoder)), "rotate_half", None)
        return own is not None and torch.equal(own(torch.arange(4.0)), torch.tensor([-2.0, -3.0, 0.0, 1.0]))

    def _unknown(self, reason: str) -> BadInput:
        return BadInput(
            f"model: the rotary position embedding of layer {self.layer} of {type(self.decoder).__name__} cannot be "
            f"undone ({reason}); leave out the policies that need it (expected_attention, streaming_llm), or choose "
            "another model"
        )
