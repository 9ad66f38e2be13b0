"""A short pass over the command line before Hydra reads it: fuse sweeps into panels, refuse names that do not exist.

Only sweeps over the panel's axes change; everything else keeps Hydra's own meaning, and what this pass cannot read is
left for Hydra to judge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, OverrideType, QuotedString, Transformer
from hydra.errors import HydraException
from omegaconf import OmegaConf

from vorn.choices import (
    AXES,
    conf_dirs,
    default_options,
    groups,
    load,
    members,
    options,
    primary,
    raw,
    top_level_keys,
    unknown,
)
from vorn.records import BadInput

_LISTS = {*AXES, "callbacks", "experiment"}  # groups whose options may be combined


def fuse_argv(argv: list[str]) -> list[str]:
    """The arguments for Hydra, program name excluded: with -m, sweeps over the panel's axes become lists.

    Raises:
        BadInput: an unknown group option, key or policy parameter, an empty axis, or a glob on an axis.
    """
    args, _ = get_args_parser().parse_known_args(argv)
    if args.help or args.hydra_help or args.shell_completion or args.experimental_rerun or args.info:
        return list(argv)
    parsed = {text: override for text in args.overrides if (override := _parse(text)) is not None}
    own = [override for override in parsed.values() if not override.is_hydra_override()]
    if not args.config_path and not args.config_name and not any("searchpath" in text for text in args.overrides):
        _Checker([Path(args.config_dir)] if args.config_dir else [], own).check()
    if not is_multirun(argv) or any(_is_false(override) for override in own if override.key_or_group == "fuse"):
        return list(argv)
    return [_fused(parsed[text]) if text in parsed else text for text in argv]


def flags_last(argv: list[str]) -> list[str]:
    """The same arguments, overrides before flags: Hydra refuses overrides on both sides of a flag."""
    rest = list(argv)
    overrides = get_args_parser().parse_known_intermixed_args(argv)[0].overrides
    for text in overrides:
        rest.remove(text)
    return [*overrides, *rest]


def is_multirun(argv: list[str]) -> bool:
    """Whether these arguments ask for a sweep."""
    args, _ = get_args_parser().parse_known_args(argv)
    return args.multirun or any(text.replace(" ", "") == "hydra.mode=MULTIRUN" for text in args.overrides)


def _parse(text: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None  # Hydra meets the same text next and explains what is wrong with it


def _is_false(override: Override) -> bool:
    return override.value() is False


def _path(override: Override) -> list[str]:
    return re.split(r"[./]", override.key_or_group)


def _is_axis(override: Override) -> bool:
    return _path(override)[0] in (*AXES, "budget") and override.package is None and not override.is_hydra_override()


def _fused(override: Override) -> str:
    """The override as Hydra shall see it: a choice or range over an axis becomes one list, all else stays."""
    if not (_is_axis(override) and override.is_discrete_sweep()):
        return str(override.input_line)
    if _glob(override) is not None:
        return str(override.input_line)
    values = list(override.sweep_iterator())
    if any(isinstance(value, (list, dict)) for value in values):
        return str(override.input_line)  # lists are whole panels: `policy=[a,b],[c]` sweeps over two of them
    return f"{override.get_key_element()}=[{','.join(str(Transformer.str(value)) for value in values)}]"


def _glob(override: Override) -> Glob | None:
    value: Any = override._value
    return value if isinstance(value, Glob) else None


def _elements(override: Override) -> list[Any]:
    """Every option that an override of a group names, in sweeps and lists alike."""
    value: Any = override._value
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    flat = [item for entry in values for item in (entry if isinstance(entry, list) else [entry])]
    return [item.text if isinstance(item, QuotedString) else item for item in flat]


class _Checker:
    """Names in overrides against what the yaml files offer. Holds the folders and overrides of one command line."""

    def __init__(self, extra: Sequence[Path], overrides: Sequence[Override]) -> None:
        self.dirs = conf_dirs(extra)
        self.overrides = [o for o in overrides if o.type is not OverrideType.DEL and o.package is None]
        self.deleted = [o for o in overrides if o.type is OverrideType.DEL and "/" not in o.key_or_group]
        self.fuses = not any(o.key_or_group == "fuse" and _is_false(o) for o in overrides)
        self.groups = groups(self.dirs)
        self.keys = top_level_keys(self.dirs)
        chosen = [name for o in overrides if o.key_or_group == "experiment" for name in _elements(o) if name]
        known = options("experiment", self.dirs)
        self.experiments = [load(known[name]) for name in chosen if name in known]

    def check(self) -> None:
        """Raise BadInput for the first override that names something unknown or empties an axis."""
        choices = [override for override in self.overrides if override.key_or_group in self.groups]
        for override in choices:
            self._check_choice(override)
        for override in self.overrides:
            top, *rest = _path(override)
            if top not in self.keys:
                raise unknown("key", top, self.keys, f"It stands in {override.input_line!r}.")
            if not rest or "/" in override.key_or_group:
                continue
            if top in AXES:
                self._check_member(override, top, rest)
            elif override.type is OverrideType.CHANGE:
                self._check_setting(override, top, rest[0])
        for override in self.deleted:
            self._check_deleted(override)

    def _check_choice(self, override: Override) -> None:
        group, names, text = override.key_or_group, _elements(override), override.input_line
        known = options(group, self.dirs)
        listed = ", ".join(sorted(known))
        if _glob(override) is not None:
            if group in AXES and self.fuses:
                remedy = "policy=all selects every policy" if "all" in known else f"name the options: {listed}"
                raise BadInput(f"{text}: a glob on the axis {group!r} cannot be fused into a panel; {remedy}")
            return
        if not names or (group in AXES and any(name in (None, "") for name in names)):
            raise BadInput(f"{text}: no {group} is selected; name at least one of: {listed}")
        if group not in _LISTS and isinstance(override._value, list):
            raise BadInput(f"{text}: {group} takes one option per job; to run several: -m {group}=A,B (of: {listed})")
        for name in names:
            if name not in (None, "", "???") and str(name) not in known:
                raise unknown(group, str(name), known)

    def _check_member(self, override: Override, group: str, rest: list[str]) -> None:
        """`policy.NAME.PARAMETER` and `unit.SETTING`: both names must exist, and NAME be selected."""
        files = options(group, self.dirs)
        inline = {key for experiment in self.experiments for key in raw(experiment.get(group))}
        shared = raw(primary()).get(group, {})
        name, *parameter = rest
        if name not in {*files, *inline, *shared} and not self._is_created(group, name):
            raise unknown(f"{group} setting" if shared else group, name, {*files, *inline, *shared})
        if name in inline or name not in files:
            return
        body = raw(load(files[name]).get(name))
        if parameter and body and parameter[0] not in body:
            raise unknown(f"parameter of {group} {name!r}:", parameter[0], [k for k in body if not k.startswith("_")])
        if not self._is_created(group, name):
            self._check_selected(override, group, name)

    def _check_setting(self, override: Override, top: str, name: str) -> None:
        """`task.SETTING` of the selected task, and `decode.SETTING`: Hydra's own message does not say what there is."""
        own = set(raw(raw(primary()).get(top)))
        if top not in self.groups:
            if own and name not in own:
                raise unknown(f"setting of {top}:", name, own, f"It stands in {override.input_line!r}.")
            return
        own |= {key for experiment in self.experiments for key in raw(experiment.get(top))}
        own |= {_path(o)[1] for o in self.overrides if o.type is not OverrideType.CHANGE and _path(o)[:-1] == [top]}
        for option in self._selected(top)[0]:
            known = members(top, option, self.dirs)
            if known is not None and name not in known | own:
                text = override.input_line
                hint = f"It stands in {text!r}; a setting that is in no file is added with a plus: +{text}"
                raise unknown(f"setting of {top} {option!r}:", name, known | own, hint)

    def _check_deleted(self, override: Override) -> None:
        """`~task.members.NAME`, where the option's file lists a name like it: Hydra's message does not say which."""
        top, *within = _path(override)
        if len(within) < 2 or top in AXES or top not in self.groups or self.experiments:
            return
        for option in self._selected(top)[0]:
            file = options(top, self.dirs).get(option)
            known = raw(OmegaConf.select(load(file), ".".join(within[:-1]))) if file else {}
            if within[-1] not in known and get_close_matches(within[-1], known):
                raise unknown(f"name in {top}.{'.'.join(within[:-1])}:", within[-1], known)

    def _is_created(self, group: str, name: str) -> bool:
        """Whether the command line itself adds the entry with its `_target_`."""
        entry = f"{group}.{name}"
        return any(
            o.key_or_group == f"{entry}._target_" or (o.key_or_group == entry and "_target_" in raw(o.value()))
            for o in self.overrides
        )

    def _check_selected(self, override: Override, group: str, name: str) -> None:
        known = options(group, self.dirs)
        selected, by = self._selected(group)
        if selected and name not in selected and not any("defaults" in load(known[o]) for o in selected if o in known):
            raise BadInput(
                f"{override.input_line}: {group} {name!r} is not selected ({by}); select it with "
                f"{group}=[{','.join([*selected, name])}], or leave its parameter out"
            )

    def _selected(self, group: str) -> tuple[list[str], str]:
        """The options of a group that are selected, as far as that can be told here, and what says so."""
        choices = [o for o in self.overrides if o.key_or_group == group]
        if any(_glob(o) is not None for o in choices):
            return [], ""
        if choices:
            names = [str(name) for choice in choices for name in _elements(choice) if name not in (None, "", "???")]
            return list(dict.fromkeys(names)), choices[-1].input_line or ""
        for experiment in reversed(self.experiments):
            for entry in raw(experiment).get("defaults", []):
                chosen = raw(entry).get(f"override /{group}", raw(entry).get(f"/{group}"))
                if chosen is not None:
                    return _listed(chosen), f"{group}={_shown(chosen)}, by the experiment"
        chosen = default_options(group)
        return list(chosen), f"{group}={_shown(chosen)}, by default"


def _listed(chosen: object) -> list[str]:
    return [str(name) for name in chosen] if isinstance(chosen, (list, tuple)) else [str(chosen)]


def _shown(chosen: object) -> str:
    return f"[{','.join(_listed(chosen))}]" if isinstance(chosen, (list, tuple)) else str(chosen)
