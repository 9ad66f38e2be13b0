"""The page: one file with everything in it, that explains itself without a network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vorn.records import REFERENCE, Observation
from vorn.report.figure import build_figure
from vorn.report.notes import ledger_state, provenance, qualifications
from vorn.report.page import captions
from vorn.report.page.cost import cost_table, shared_cost
from vorn.report.page.drawing import Drawing, draw
from vorn.report.page.fixtures import Shown, fixture_bytes, shown_fixtures
from vorn.report.page.forest import forest_figure
from vorn.report.page.granularity import granularity_figure
from vorn.report.page.grid import difference_maps, mean_maps
from vorn.report.page.layers import layers_figure
from vorn.report.page.losses import losses_figure
from vorn.report.page.matrix import matrix_figure, shared_tasks
from vorn.report.page.positions import positions_figure
from vorn.report.page.resumes import resume_section
from vorn.report.reports import EvaluationReport, Report
from vorn.report.style import drawing
from vorn.report.summaries import NOT_TESTED, TITLES, FamilySummary, budget_summary, summaries
from vorn.report.tables import CELLS, GRID, SUBTASKS, Table, tables
from vorn.report.words import CONTRADICTION, LOSSES, heading, how_to_read
from vorn.views import View


@dataclass(frozen=True, slots=True)
class Section:
    """An evaluation as the page shows it; what is empty is left out."""

    key: str  # unique in the page
    evaluation: EvaluationReport
    title: str
    lead: str
    summaries: tuple[FamilySummary, ...]
    notes: tuple[str, ...]
    drawings: dict[str, Drawing]  # by what they show
    tables: dict[str, Table]  # by title
    cost: Table | None
    shared_cost: str
    fixtures: Shown
    way: str  # how to read it
    provenance: tuple[tuple[str, str], ...]

    @property
    def data(self) -> Markup:
        """Of the fixtures, for a script element."""
        return Markup(self.fixtures.data)

    @property
    def cells(self) -> Table:
        """The table of cells."""
        return self.tables[CELLS]

    @property
    def subtasks(self) -> Table | None:
        """The table of sub-tasks, if there are several."""
        return self.tables.get(SUBTASKS)

    @property
    def grid(self) -> Table | None:
        """The table along the axes of the heat maps, if there are any."""
        return self.tables.get(GRID)

    @property
    def losses(self) -> Table | None:
        """The table of losses, if there are any."""
        return self.tables.get(LOSSES)

    @property
    def is_contradictory(self) -> bool:
        """Whether some interval and its p tell different stories."""
        return any(pair.is_contradictory for pair in self.evaluation.pairs)

    @property
    def families(self) -> list[tuple[str, str]]:
        """Name and title of those with comparisons."""
        return [(name, title) for name, title in TITLES.items() if title in self.tables]

    @property
    def other_tables(self) -> list[Table]:
        """All but the cells and the families."""
        return [
            table
            for title, table in self.tables.items()
            if title not in {CELLS, SUBTASKS, GRID, LOSSES, *TITLES.values()}
        ]


@dataclass(frozen=True, slots=True)
class Page:
    """The page and its figures as files."""

    html: str
    drawings: tuple[Drawing, ...]


def build_page(
    report: Report, observations: Sequence[Observation], views: Sequence[View] = (), failed: Sequence[str] = ()
) -> Page:
    """The page of a report.

    Args:
        report: what it says.
        observations: that the report was made of, for completions and costs.
        views: of the fixtures whose prompts can be shown; those of other evaluations are left out.
        failed: jobs of a sweep that measured nothing, or not all, in words.
    """
    with drawing():
        sections = [_section(one, report, observations, views, index) for index, one in enumerate(report.panels)]
        resumes = resume_section(report.matrix, report, observations) if report.matrix else None
        matrices = [
            draw(f"matrix-{_slug(task)}", f"Models, {task}", captions.matrix_caption(group), matrix_figure(group))
            for task, group in shared_tasks(report).items()
        ]
    drawings = [*(one for section in sections for one in section.drawings.values()), *filter(None, matrices)]
    drawings += resumes.drawings if resumes else []
    script = _resource("report.js")
    html = (
        _environment()
        .get_template("report.html.j2")
        .render(
            sections=sections,
            titles=[*([resumes.title] if resumes else []), *(one.title for one in sections)],
            resumes=resumes,
            matrices=list(filter(None, matrices)),
            ways=list(dict.fromkeys(how_to_read(one.plan) for one in report.panels)),
            state=ledger_state(report),
            failed=failed,
            style=Markup(_resource("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            contradiction=CONTRADICTION,
            not_tested=NOT_TESTED,
        )
    )
    return Page(html, tuple(drawings))


def _section(
    evaluation: EvaluationReport, report: Report, observations: Sequence[Observation], views: Sequence[View], index: int
) -> Section:
    own = [seen for seen in observations if seen.evaluation_id == evaluation.evaluation_id]
    own_views = [view for view in views if view.evaluation_id == evaluation.evaluation_id]
    budgets = budget_summary(evaluation)
    prefix = f"{index + 1}-" if len(report.panels) > 1 else ""
    return Section(
        key=f"e{index + 1}",
        evaluation=evaluation,
        title=heading(evaluation, report),
        lead=", ".join(
            [f"{evaluation.n_fixtures} fixtures", f"{len(evaluation.cells)} cells", *filter(None, evaluation.grades)]
        ),
        summaries=(*summaries(evaluation), *([budgets] if budgets else [])),
        notes=tuple(qualifications(evaluation)),
        drawings=dict(_drawings(evaluation, report, own_views, prefix)),
        tables={table.title: table for table in tables(evaluation)},
        cost=cost_table(evaluation.cells, own),
        shared_cost=shared_cost(own),
        fixtures=shown_fixtures(evaluation.cells, own, own_views, fixture_bytes(len(report.evaluations))),
        way=how_to_read(evaluation.plan),
        provenance=(("evaluation", evaluation.evaluation_id), *provenance(evaluation)),
    )


def _drawings(
    evaluation: EvaluationReport, report: Report, views: Sequence[View], prefix: str
) -> Iterator[tuple[str, Drawing]]:
    alone = Report(evaluations=(evaluation,), damaged=(), disagreements=(), duplicates=0, matrix=None)
    noted = captions.outcomes_caption(evaluation)
    candidates = [("outcomes", "Outcome against budget", noted, build_figure(alone) if noted else None)]
    for name, title in TITLES.items():
        pairs = evaluation.family(name)
        figure = forest_figure(pairs, evaluation.noise) if pairs else None
        candidates.append((f"forest-{name}", title, captions.forest_caption(pairs, evaluation.noise), figure))
    maps, differences = mean_maps(evaluation), difference_maps(evaluation)
    granularity = granularity_figure(evaluation)
    layers = layers_figure(evaluation)
    positions = positions_figure(evaluation.cells, views)
    losses = losses_figure(evaluation.losses)
    kept = captions.positions_caption(evaluation.cells, views) if positions else ""
    candidates += [
        ("grid", "Heat maps", captions.grid_caption(evaluation) if maps else "", maps),
        (
            "grid-difference",
            f"Heat maps, difference from {REFERENCE}",
            captions.difference_caption(evaluation) if differences else "",
            differences,
        ),
        ("granularity", "Units", captions.granularity_caption(evaluation), granularity),
        ("layers", "Layers", captions.layers_caption(evaluation) if layers else "", layers),
        ("positions", "Where tokens are kept", kept, positions),
        ("losses", LOSSES, "", losses),
    ]
    for key, title, caption, figure in candidates:
        if made := draw(prefix + key, title, caption, figure):
            yield key, made


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vorn.report.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _resource(name: str) -> str:
    return (files("vorn.report.page") / name).read_text(encoding="utf-8")
