"""What a killed writer leaves behind: a real SIGKILL, and a file cut at every byte of its last block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from factories import make_manifest, make_observation

from vorn.ledger import LedgerWriter, read_ledger

POLICIES = ("full", "tova", "h2o")
WRITER = """
import sys
from pathlib import Path
from factories import make_manifest, make_observation
from vorn.ledger import LedgerWriter

writer = LedgerWriter(Path(sys.argv[1]), make_manifest)
for number in range(1_000_000):
    writer.append([make_observation(policy=policy, fixture_id=f"f{number}") for policy in ("full", "tova", "h2o")])
    print(number, flush=True)
"""


def block(number: int) -> list:
    return [make_observation(policy=policy, fixture_id=f"f{number}") for policy in POLICIES]


@pytest.mark.integration
def test_kill_9_loses_at_most_the_block_in_flight(tmp_path):
    """Every fixture whose append returned must be there, complete; at most one more may be there in part."""
    for acknowledged in (1, 40):
        folder = tmp_path / str(acknowledged)
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            lines = [process.stdout.readline() for _ in range(acknowledged)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        last = max(int(line) for line in lines if line.endswith("\n"))
        assert last >= acknowledged - 1
        contents = read_ledger(folder)
        done = [seen.fixture_id for seen in contents.observations]
        assert done[: 3 * (last + 1)] == [f"f{number}" for number in range(last + 1) for _ in POLICIES]
        assert set(done[3 * (last + 1) :]) <= {f"f{last + 1}"}
        assert len(contents.damaged) <= 1


@pytest.mark.integration
def test_a_file_cut_at_every_byte_of_its_last_block_is_read(tmp_path):
    """Oracle: a line counts from its closing brace on; its newline may be missing."""
    seen = block(0)
    writer = LedgerWriter(tmp_path, make_manifest)
    writer.append(seen)
    writer.close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    start, *ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    cells = [one.cell_id for one in seen]
    for size in range(len(whole), start, -1):
        os.truncate(path, size)
        contents = read_ledger(tmp_path)
        complete = sum(size >= end for end in ends)
        is_torn = size - 1 != start and size not in ends and size - 1 not in ends
        assert contents.observations == tuple(seen[:complete])
        assert [(line.line, line.is_tail) for line in contents.damaged] == [(2 + complete, True)] * is_torn
        assert contents.missing(cells, ["f0"]) == ({"f0": cells[complete:]} if complete < 3 else {})


def test_a_rerun_after_a_torn_tail_completes_the_fixture(tmp_path):
    writer = LedgerWriter(tmp_path, make_manifest)
    writer.append(block(0))
    writer.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-30])
    cells = [seen.cell_id for seen in block(0)]
    todo = read_ledger(tmp_path).missing(cells, ["f0"])
    assert todo == {"f0": cells[2:]}
    rerun = LedgerWriter(tmp_path, make_manifest)
    rerun.append([seen for seen in block(0) if seen.cell_id in todo["f0"]])
    rerun.close()
    contents = read_ledger(tmp_path)
    assert contents.observations == tuple(block(0))
    assert contents.missing(cells, ["f0"]) == {}
    assert [(line.path, line.is_tail) for line in contents.damaged] == [(path, True)]


@pytest.mark.parametrize("size", [0, 1, 50])
def test_a_writer_killed_before_its_manifest_was_whole_leaves_nothing_to_read(tmp_path, size):
    writer = LedgerWriter(tmp_path, make_manifest)
    writer.append(block(0))
    writer.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:size])
    contents = read_ledger(tmp_path)
    assert (contents.observations, contents.manifests) == ((), ())
    assert len(contents.damaged) == (size > 0)
