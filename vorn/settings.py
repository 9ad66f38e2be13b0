"""Reading settings: whole numbers, choices, percentages and budgets, each refused with one message. Nothing clamps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import inf
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from vorn.choices import conf_dirs, raw, top_level_keys, unknown
from vorn.grading import check_rule
from vorn.records import BadInput

QUIET = "quiet"
VERBOSITIES = (QUIET, "normal", "verbose", "debug")
DTYPES = ("auto", "float32", "bfloat16", "float16")

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_WHOLE = re.compile(r"\s*(\d+)\s*")


def whole(field: str, value: object, least: int, null: str = "") -> int | None:
    """`value` if it is an int >= `least`; None is legal only if `null` says what it means.

    Raises: BadInput naming field, value and legal range.
    """
    if value is None and null:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    legal = f"a whole number >= {least}" + (f", or null for {null}" if null else "")
    raise BadInput(f"{field}={value!r} is not legal; give {legal}" + _one_value_hint(field, value))


def choice(field: str, value: object, legal: Sequence[object]) -> None:
    """Raise BadInput unless `value` is one of `legal`, type included."""
    if not any(value == option and type(value) is type(option) for option in legal):
        listed = ", ".join(text(option) for option in legal)
        if isinstance(value, str):
            raise unknown(f"value of {field}:", value, [text(option) for option in legal])
        raise BadInput(f"{field}={value!r} is not legal; give one of: {listed}" + _one_value_hint(field, value))


def _one_value_hint(field: str, value: object) -> str:
    return f" (one value per job; to run several: -m {field}=A,B)" if OmegaConf.is_list(value) else ""


def percentage(value: object) -> str | None:
    """The canonical text of a percentage ("25%" for "25.0 %"), or None if `value` is none."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    return f"{Decimal(match[1]).normalize():f}%" if match else None


def share(percent: str, total: int) -> int:
    """Floor of a percentage of `total`, exactly: "10%" of 70 is 7."""
    return int(Fraction(percent.rstrip("%")) / 100 * total)


def budget_text(value: object) -> str:
    """The canonical text of one budget: "64" tokens or "25%" of the prompt.

    Raises: BadInput unless it is a whole number >= 1 or a percentage in (0%, 100%].
    """
    percent = percentage(value)
    if percent is not None and 0 < Fraction(percent[:-1]) <= 100:
        return percent
    if isinstance(value, str) and (match := _WHOLE.fullmatch(value)):
        value = int(match[1])
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return str(value)
    remedy = ""
    if isinstance(value, float) and 0 < value < 1:
        remedy = f"; for a share of the prompt write {percentage(f'{Decimal(str(value)) * 100}%')}"
    elif isinstance(value, float) and value.is_integer() and value > 0:
        remedy = f"; for tokens write {int(value)}"
    raise BadInput(f"budget={value!r} is not legal; give tokens >= 1 (64) or a percentage in (0%, 100%] (25%){remedy}")


def guard(field: str, value: object) -> int | str:
    """A number of guarded tokens >= 0, or a percentage of the budget in [0%, 100%] in canonical text."""
    percent = percentage(value)
    if percent is not None and Fraction(percent[:-1]) <= 100:
        return percent
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise BadInput(f"{field}={value!r} is not legal; give tokens >= 0, or a percentage of the budget such as 50%")


def check_guards_fit(budget_tokens: int, sinks: int, recent: int) -> None:
    """Raise BadInput if `budget_tokens` cannot hold the guards."""
    if budget_tokens < sinks + recent:
        raise BadInput(
            f"budget of {budget_tokens} tokens cannot hold {sinks} sink + {recent} recent tokens; raise budget to >= "
            f"{sinks + recent} or lower guards.sinks / guards.recent"
        )


def text(value: object) -> str:
    """A setting as one writes it on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def expand(field: str, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One mapping per combination of values: a list is an axis, anything else is one value.

    Raises: BadInput for an empty list, a list in a list, or a value given twice.
    """
    axes = [value if isinstance(value, list) else [value] for value in settings.values()]
    for key, values in zip(settings, axes, strict=True):
        if not values or any(isinstance(value, (list, dict)) for value in values):
            raise BadInput(f"{field}.{key}={settings[key]!r} is not legal; give one value or a list of values")
        refuse_twice(f"{field}.{key}", values)
    for combination in product(*axes):
        yield dict(zip(settings, combination, strict=True))


def refuse_twice(field: str, values: Sequence[object]) -> None:
    """Raise BadInput if two values read the same: the same cell would be measured twice."""
    texts = [text(value) for value in values]
    twice = next((value for value in texts if texts.count(value) > 1), None)
    if twice is not None:
        raise BadInput(f"{field}=[{','.join(texts)}] names {twice} twice; name every value once")


def check_given(cfg: DictConfig) -> None:
    """Raise BadInput for the first setting without a default that was not given."""
    for field in _missing(raw(cfg)):
        raise BadInput(f"{field} is required and not given; give it as {field}=VALUE")


def check_settings(cfg: DictConfig) -> None:
    """Raise BadInput for the first setting outside the axes that is missing, unknown or out of range."""
    known = top_level_keys(conf_dirs())
    for key in raw(cfg):
        if key not in known:
            raise unknown("key", key, known - {"hydra"}, "It stands at the top level of the configuration.")
    check_given(cfg)
    whole("seed", cfg.seed, 0)
    whole("limit", cfg.limit, 1, null="all fixtures of the task")
    choice("fuse", cfg.fuse, (True, False))
    choice("aa", cfg.aa, (True, False))
    _filled("ledger_dir", cfg.ledger_dir)
    choice("verbosity", cfg.verbosity, VERBOSITIES)
    choice("outcome.nll", cfg.outcome.nll, (True, False))
    choice("isolate", cfg.isolate, (True, False))
    _seconds("claims.stale_after_s", cfg.claims.stale_after_s)
    _seconds("claims.poll_s", cfg.claims.poll_s)
    whole("views.fixtures", cfg.views.fixtures, 0, null="all fixtures")
    whole("prefill.chunk_tokens", cfg.prefill.chunk_tokens, 1, null="the whole prompt at once")
    whole("decode.max_cells", cfg.decode.max_cells, 1)
    whole("decode.max_bytes", cfg.decode.max_bytes, 1)
    for name in ("batch_cells", "chunk_tokens"):
        _falling(f"memory.{name}", cfg.memory[name])
    _number("memory.near_miss", cfg.memory.near_miss, "a share above 0, at most 1", 0.0, 1.0)
    if cfg.price_per_hour is not None:
        _number("price_per_hour", cfg.price_per_hour, "null, or what an hour costs, above 0", 0.0, inf)
    _filled("model.name", cfg.model.name)
    _filled("model.id", cfg.model.id)
    _filled("model.attn_implementation", cfg.model.attn_implementation)
    choice("model.dtype", cfg.model.dtype, DTYPES)
    choice("model.chat_template", cfg.model.chat_template, ("auto", False))
    choice("model.trust_remote_code", cfg.model.trust_remote_code, (True, False))
    _mapping("model.template_arguments", cfg.model.template_arguments, "{enable_thinking: false}")
    if cfg.model.device_map != "auto":
        _mapping("model.device_map", cfg.model.device_map, "auto, or {model.embed_tokens: 0, ...}")
    _mapping("model.quantization", cfg.model.quantization, "{quant_method: bitsandbytes, load_in_8bit: true}")
    _filled("task.name", cfg.task.name)
    _filled("task.grade", cfg.task.grade)
    check_rule(cfg.task.grade)
    whole("task.max_new_tokens", cfg.task.max_new_tokens, 1)
    whole("task.fixtures", cfg.task.fixtures, 1)


def _filled(field: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{field}={value!r} is not legal; give a text that is not empty")


def _mapping(field: str, value: object, example: str) -> None:
    if value is not None and not isinstance(value, DictConfig):
        raise BadInput(f"{field}={value!r} is not legal; give null or a mapping such as {example}")


def _seconds(field: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < inf:
        raise BadInput(f"{field}={value!r} is not legal; give seconds > 0")


def _number(field: str, value: object, legal: str, above: float, most: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not above < value <= most or value == inf:
        raise BadInput(f"{field}={value!r} is not legal; give {legal}")


def _falling(field: str, values: object) -> None:
    numbers = [one for one in values if type(one) is int and one > 0] if isinstance(values, ListConfig) else None
    if numbers is None or values != sorted(set(numbers), reverse=True):
        raise BadInput(
            f"{field}={values!r} is not legal; give a list of falling whole numbers >= 1, as [8,1]; [] is none"
        )


def _missing(node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _missing(value, f"{path}{key}.")
        elif value == "???":
            yield f"{path}{key}"


def resolved(node: Any) -> dict[str, Any]:
    """A config node as plain values, interpolations resolved; {} if it is no mapping."""
    return raw(OmegaConf.to_container(node, resolve=True)) if isinstance(node, DictConfig) else {}
