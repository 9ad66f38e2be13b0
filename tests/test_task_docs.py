"""docs/tasks.md: its commands are read by Hydra as they stand, and it names every task and every grade."""

from __future__ import annotations

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.composing import CONF, ROOT
from vorn.grading import GRADES

PAGE = (ROOT / "docs" / "tasks.md").read_text()
SPANS = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.S))
COMMANDS = [span for span in SPANS if re.search(r"(^|[ \"'])(~task\.|task[^ ]*=|model[^ ]*=)", span)]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_read(command: str) -> None:
    words = shlex.split(command.removeprefix("python launch.py "))
    parsed = OverridesParser.create().parse_overrides(words)
    assert [one.key_or_group.split(".")[0] for one in parsed] == ["task" if "task" in w else "model" for w in words]


@pytest.mark.parametrize("rule", GRADES)
def test_a_grade_is_explained(rule: str) -> None:
    assert f"`{rule}`" in PAGE


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "task").glob("*.yaml")))
def test_a_task_is_named(name: str) -> None:
    if name.startswith("longbench_"):
        assert len(list((CONF / "task").glob("longbench_*.yaml"))) == 21
        return
    first, last = re.fullmatch(r"(\w+?)(_\d)?", name).groups()  # type: ignore[union-attr]
    assert re.search(rf"^\|.*`{first}(_1)?`.*{f'`({name}|{last})`' if last and last != '_1' else ''}", PAGE, re.M)
