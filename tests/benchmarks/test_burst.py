"""The benchmark of bursts: a tiny run of it, and its tables."""

from __future__ import annotations

import json
import subprocess
import sys

import burst
import pytest
from burst import CLIENTS, Flooded, milliseconds, panels, play_quotes, quantile, table

FLOODS = [Flooded(50, 10, 50), Flooded(5, 1000, 0)]
FOUND = {(flood, client.title): (20.0, 3000.0) for flood in FLOODS for client in CLIENTS}


def test_every_client_is_measured_under_a_flood(tmp_path):
    path = tmp_path / "ages.json"
    command = [sys.executable, burst.__file__, "--symbols=5", "--rates=10", "--work=0", "--seconds=0.2"]
    done = subprocess.run([*command, f"--json={path}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["client"] for record in records] == [client.title for client in CLIENTS]
    assert all(0 < record["p50"] <= record["p99"] for record in records)
    assert "# The age of the book in a flood" in done.stdout
    assert "| newest decoded | all decoded |" in done.stdout


@pytest.mark.parametrize("which", ["skipping", "all"])
def test_the_burst_of_quotes_is_played(which):
    assert len(play_quotes(which, 2)) == 2


def test_the_table_has_a_row_a_flood():
    lines = table(FOUND)
    assert lines[2] == "| 50 | 10 | 50 | " + " | ".join(["0.020 / 3.00"] * 4) + " |"
    assert len(lines) == 4


def test_charts_show_p99_of_the_floods_that_were_measured():
    (panel,) = panels(FOUND)
    assert panel.is_log
    assert [bar.value for bar in panel.bars] == [3000.0] * 4


def test_quantiles_are_of_sorted_ages():
    ages = list(range(0, 1_000_000, 10_000))
    assert (quantile(ages, 0.5), quantile(ages, 0.99), quantile([5000], 0.99)) == (500.0, 990.0, 5.0)


def test_ages_have_three_digits():
    assert [milliseconds(us) for us in (5, 1500, 15_000, 150_000)] == ["0.005", "1.50", "15.0", "150"]


def test_a_time_that_makes_no_sense_is_refused(capsys):
    with pytest.raises(SystemExit):
        burst._parse(["--seconds", "0"])
    assert "--seconds: expected more than 0 and at most 60, found 0" in capsys.readouterr().err
