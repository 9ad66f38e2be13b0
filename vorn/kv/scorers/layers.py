"""Which layers a parameter means: decoder layers, or those with attention, which in a hybrid are fewer."""

from __future__ import annotations

from fractions import Fraction

from vorn.records import BadInput

_ATTENDING = "layers with attention"


def layer_number(field: str, value: int | str, layers: int, kind: str = "layers") -> int:
    """Index of a layer, 0-based.

    Args:
        field: name of the parameter, for the message.
        value: an index, or a percentage of the model's layers such as "50%", rounded down.
        layers: how many the model has of that kind.
        kind: for the message.
    Raises: BadInput if there is no such layer.
    """
    layer = int(Fraction(value[:-1]) / 100 * layers) if isinstance(value, str) and value.endswith("%") else value
    if not isinstance(layer, int) or not 0 <= layer < layers:
        raise BadInput(
            f"{field}={value}: the model has {kind} 0 to {layers - 1}; choose one of them, or a percentage of them "
            "below 100%"
        )
    return layer


def layer_numbers(field: str, value: str, layers: int) -> list[int] | None:
    """Indices of layers with attention in a text such as "3", "final", "50%" or "2+5+final"; None for "all".

    Raises: BadInput for a text that names none, or one of them twice.
    """
    if value == "all":
        return None
    names = [part.strip() for part in value.split("+")]
    numbers = [
        layers - 1 if name == "final" else layer_number(field, _index(field, name), layers, _ATTENDING)
        for name in names
    ]
    if len(set(numbers)) < len(numbers):
        raise BadInput(f"{field}={value}: names layer {max(numbers, key=numbers.count)} twice; name every layer once")
    return numbers


def _index(field: str, name: str) -> int | str:
    share = name.removesuffix("%")
    if share.replace(".", "", 1).isdecimal() and (share != name or share.isdecimal()):
        return name if share != name else int(name)
    raise BadInput(f"{field}: {name!r} names no layer; write all, final, an index, a percentage, or several with +")
