"""Following ledgers while they grow: fixtures and running rates, in place on a terminal, as plain lines elsewhere.

What is seen is no report: nothing is tested, so that looking costs no error rate, and no look is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vorn.ledger import SEGMENT_GLOB, Follower
from vorn.records import REFERENCE, BadInput, Manifest, Observation
from vorn.report.savings import planned_fixtures
from vorn.report.words import counted

TERMINAL_S, LINES_S = 1.0, 30.0  # between two looks, unless asked otherwise
_COLUMNS = ("fixtures", "hits", "rate", "mean", "errors")
_NO_LIMIT = 10**9  # fixtures, as tasks say "all that there are": how many these are no manifest tells


@dataclass(slots=True)
class _Tally:
    """One cell so far, by fixture: the outcome, None for an error that no outcome has replaced."""

    cell: str
    policy: str
    outcomes: dict[str, float | None] = field(default_factory=dict)

    @property
    def done(self) -> list[float]:
        return [outcome for outcome in self.outcomes.values() if outcome is not None]


@dataclass(slots=True)
class Watched:
    """One evaluation so far."""

    evaluation_id: str
    name: str = ""  # model and task, when the first observation has landed
    planned: int | None = None  # the most fixtures that a run was asked for; None where no manifest says so
    is_resume: bool = False
    recorded: int | None = None  # the same as a run itself says, and not its configuration
    cells: dict[str, _Tally] = field(default_factory=dict)
    fixtures: set[str] = field(default_factory=set)

    def add_run(self, manifest: Manifest) -> None:
        """Another run has begun a segment."""
        if manifest.fixtures is not None:
            self.recorded = max(manifest.fixtures, self.recorded or 0)
        planned = planned_fixtures(manifest)
        if planned is not None and planned < _NO_LIMIT:
            self.planned = max(planned, self.planned or 0)

    def add(self, seen: Observation) -> None:
        """Another observation has landed: the first of a cell and fixture counts, an outcome before an error."""
        self.name = f"{seen.model}, {seen.task}"
        self.is_resume = self.is_resume or seen.is_resume
        self.fixtures.add(seen.fixture_id)
        outcomes = self.cells.setdefault(seen.cell_id, _Tally(seen.cell, seen.policy)).outcomes
        if outcomes.get(seen.fixture_id) is None:
            outcomes[seen.fixture_id] = seen.outcome

    @property
    def progress(self) -> str:
        """`40/100 fixtures`, `8/48 resumes`; ledgers of resumes that are older than `recorded` tell no plan.

        Where runs asked for different fixtures, as under two seeds, more may have landed than any of them planned: then
        no plan is known.
        """
        n, noun = len(self.fixtures), "resume" if self.is_resume else "fixture"
        planned = self.recorded if self.is_resume else self.planned
        return f"{n}/{planned} {noun}s" if planned and n <= planned else counted(n, noun)

    @property
    def rates(self) -> str:
        """`full 98% vorn 41%`: hit rates of the policies, over their cells; of resumes, mean token hits."""
        groups: dict[str, list[float]] = {}
        for tally in self.ordered():
            groups.setdefault(tally.policy, []).extend(tally.done)
        shown = " ".join(f"{name} {self.rate(done)}" for name, done in groups.items() if done)
        return f"token hit {shown}" if self.is_resume and shown else shown

    def rate(self, done: Sequence[float]) -> str:
        """Of some outcomes: `41%`; "" for none."""
        if not done:
            return ""
        hits = sum(done) if self.is_resume else sum(outcome == 1.0 for outcome in done)
        return f"{hits / len(done):.0%}"

    @property
    def errors(self) -> int:
        """Cells and fixtures that failed and were not measured since."""
        return sum(outcome is None for tally in self.cells.values() for outcome in tally.outcomes.values())

    def ordered(self) -> list[_Tally]:
        """Its cells, the reference first."""
        return sorted(self.cells.values(), key=lambda tally: tally.policy != REFERENCE)


class Watch:
    """Everything that has landed below some paths, which may be folders of evaluations or their parents."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """`paths`: those that do not exist yet are waited for. Raises: BadInput for one that is a file."""
        for path in paths:
            if path.exists() and not path.is_dir():
                raise BadInput(
                    f"LEDGER={str(path)!r} is no folder; legal is an evaluation's folder or their parent, `ledgers`"
                )
        self._paths = paths
        self._followers: dict[Path, Follower] = {}
        self.evaluations: dict[str, Watched] = {}

    def update(self) -> bool:
        """Take in what has landed; True if anything has. Raises: BadInput for a record of another version."""
        news = [segment for follower in self._found() for segment in follower.new()]
        for segment in news:
            if segment.manifest is None:
                continue
            name = segment.manifest.evaluation_id
            watched = self.evaluations.setdefault(name, Watched(name))
            watched.add_run(segment.manifest)
            for seen in segment.observations:
                watched.add(seen)
        return bool(news)

    def _found(self) -> Iterator[Follower]:
        for path in self._paths:
            inner = sorted(path.iterdir()) if path.is_dir() else []
            for folder in (path, *inner):
                if folder.is_dir() and any(folder.glob(SEGMENT_GLOB)):
                    yield self._followers.setdefault(folder.resolve(), Follower(folder))

    def lines(self) -> list[str]:
        """One line per evaluation, in the order of their first segments; what is waited for if there is none."""
        if not self.evaluations:
            return [f"waiting for {', '.join(map(str, self._paths))}"]
        return [_line(watched) for watched in self.evaluations.values()]

    def table(self) -> RenderableType:
        """The same with a row per cell."""
        if not self.evaluations:
            return Text(self.lines()[0])
        parts: list[RenderableType] = []
        for watched in self.evaluations.values():
            parts += [Text(_line(watched), style="bold"), _cell_table(watched)]
        return Group(*parts)


def watch(paths: Sequence[Path], console: Console, interval_s: float | None = None) -> None:
    """Show what lands below `paths` until Ctrl-C; on anything but a terminal, a line per evaluation when it changed.

    `interval_s`: between two looks; None for TERMINAL_S or LINES_S.
    Raises: BadInput as `Watch`.
    """
    state = Watch(paths)
    try:
        if console.is_terminal:
            _follow_in_place(state, console, interval_s or TERMINAL_S)
        else:
            _follow_in_lines(state, console, interval_s or LINES_S)
    except KeyboardInterrupt:
        return


def _follow_in_place(state: Watch, console: Console, interval_s: float) -> None:
    state.update()
    with Live(state.table(), console=console, auto_refresh=False) as live:
        while True:
            live.update(state.table(), refresh=True)
            sleep(interval_s)
            state.update()


def _follow_in_lines(state: Watch, console: Console, interval_s: float) -> None:
    shown: list[str] = []
    while True:
        state.update()
        lines = state.lines()
        for line in lines:
            if line not in shown:
                console.out(line, highlight=False)
        shown = lines
        sleep(interval_s)


def _line(watched: Watched) -> str:
    errors = f", {counted(watched.errors, 'error')}" if watched.errors else ""
    return f"{watched.name or watched.evaluation_id}: {watched.progress}, {watched.rates or 'no outcome yet'}{errors}"


def _cell_table(watched: Watched) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("cell", overflow="fold")
    for title in ("resumes", "token hit", "errors") if watched.is_resume else _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for tally in watched.ordered():
        done = tally.done
        mean = f"{sum(done) / len(done):.1%}" if done else ""
        hits, errors = sum(outcome == 1.0 for outcome in done), len(tally.outcomes) - len(done)
        rates = [watched.rate(done)] if watched.is_resume else [str(hits), watched.rate(done), mean]
        row = (tally.cell, str(len(done)), *rates, str(errors or ""))
        table.add_row(*map(Text, row), style="bold" if tally.policy == REFERENCE else "")
    return table
