"""Measures a panel without a model, as a process that tests kill.

Everything but the measuring is the real thing: evaluation, claims, ledger. Outcomes follow from the names alone.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from factories import make_manifest, make_observation

from vorn.claims import Claims
from vorn.evaluation import Evaluation
from vorn.ledger import LedgerWriter, writable
from vorn.records import digest


def draw(*names: str) -> float:
    """A number in [0, 1) that belongs to the names."""
    return int(sha256("|".join(names).encode()).hexdigest()[:8], 16) / 2**32


def evaluation(given: Path, ledgers: Path) -> Evaluation:
    """The evaluation that the pickle describes, into a folder of `ledgers`."""
    plan, fixtures = pickle.loads(given.read_bytes())
    identity = {"model": "none"}
    folder = ledgers / digest(identity)
    writer = LedgerWriter(folder, lambda: make_manifest(evaluation_id=digest(identity)))
    claims = Claims(folder, stale_after_s=60, poll_s=0.01)
    texts = [fixture.prompt for fixture in fixtures]
    return Evaluation(
        model="none",
        task="none",
        identity=identity,
        specs=plan.cells,
        fixtures=fixtures,
        texts=texts,
        folder=folder,
        writer=writer,
        claims=claims,
        out_dir=ledgers / "out",
        tests=plan.tests,
    )


def main(given: Path, ledgers: Path, claimed: Callable[[], object] = lambda: None) -> None:
    """Measure until all is done; `claimed` is called when the first fixture is in flight."""
    run = evaluation(given, ledgers)
    places = {fixture.fixture_id: index for index, fixture in enumerate(run.fixtures)}
    for number, claim in enumerate(run.work(is_over=lambda: False)):
        if number == 0:
            claimed()
        time.sleep(0.01 * draw(claim.fixture_id))
        block = [
            make_observation(
                evaluation_id=run.evaluation_id,
                cell_id=cell_id,
                fixture_id=claim.fixture_id,
                fixture_index=places[claim.fixture_id],
                fingerprint=run.fingerprints[claim.fixture_id],
                policy=run.cells[cell_id].policy,
                unit=run.cells[cell_id].unit,
                budget=run.cells[cell_id].budget,
                outcome=float(draw(claim.fixture_id, cell_id) < (0.9 if run.cells[cell_id].is_reference else 0.5)),
            )
            for cell_id in claim.cell_ids
        ]
        with writable(run.folder):
            run.writer.append(block)
    run.close()
