"""What the orchestrator makes of figures, on figures that are made up."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from websocket import (
    BLOCKING,
    BUSY,
    BUSY_CYTHON,
    LIBRARIES,
    SPINNING,
    Cell,
    Failure,
    Program,
    Results,
    checked,
    find_pythons,
    panels,
    parse,
    parse_answer,
    parse_only,
    programs_of,
    report,
    size_name,
    summary,
)

OURS, THEIRS = Program("ours", "uvloop"), Program("picows", "uvloop")
ECHO = Cell("client", "tcp", "echo", 256)
BURST = Cell("client", "tcp", "burst", 128)


def results(cell: Cell, rates: dict[Program, list[float]], cpu_ns: float | None = None) -> Results:
    made = Results()
    for program, values in rates.items():
        for number, rate in enumerate(values):
            result = {"n": round(rate), "seconds": 1.0}
            if cpu_ns is not None:
                result |= {"user_ns": cpu_ns / 2 * rate, "cpu_ns": cpu_ns * rate}
            made.add(cell, program, number, result)
    return made


def test_a_figure_is_the_median_over_the_rounds():
    found = results(ECHO, {OURS: [300, 100, 200]}).figure(ECHO, OURS)
    assert str(found) == "200"
    assert found.range == "100-300"


def test_a_ratio_is_taken_inside_a_round():
    # The machine slows down: medians would say 200 / 100, every round says 1 / 2, 2 or 3.
    made = results(ECHO, {OURS: [100, 200, 300], THEIRS: [200, 100, 100]})
    assert made.ratio(ECHO, OURS, THEIRS) == 2.0
    made = results(ECHO, {OURS: [100, 10, 1], THEIRS: [10, 100, 10]})
    assert made.ratio(ECHO, OURS, THEIRS) == 0.1
    assert made.ratio(ECHO, OURS, BLOCKING) is None


def test_a_round_that_only_one_of_two_has_is_in_no_ratio():
    made = results(ECHO, {OURS: [100, 400], THEIRS: [100]})
    assert made.ratio(ECHO, OURS, THEIRS) == 1.0


def test_cpu_time_is_for_one_frame_and_not_of_who_polls():
    made = results(BURST, {OURS: [1000], SPINNING: [1000]}, cpu_ns=200)
    assert made.figure(BURST, OURS, "cpu").median == 200
    assert made.figure(BURST, OURS, "user").median == 100
    assert made.figure(BURST, SPINNING, "rate").median == 1000
    assert made.figure(BURST, SPINNING, "cpu") is None


def test_a_failure_takes_a_program_out_of_its_cell_and_is_said():
    made = results(ECHO, {OURS: [100], THEIRS: [50]})
    made.fail(ECHO, THEIRS, "it broke")
    assert made.figure(ECHO, THEIRS) is None
    assert made.ratio(ECHO, OURS, THEIRS) is None
    text = report(made, [ECHO], {"websockets 17.4": "no such version"}, [])
    assert "Not measured: picows 2.3.1, uvloop: it broke (client, TCP, echo, 256 B)." in text
    assert "Not measured: websockets 17.4: no such version." in text


def test_the_table_of_echoes():
    made = results(ECHO, {OURS: [90, 100, 110], THEIRS: [50, 50, 50], BLOCKING: [200, 200, 200]})
    text = report(made, [ECHO], {}, [])
    assert text.startswith("# WebSockets\n")
    assert "| round trips a second | 256 B | range (256 B) | x picows 2.3.1 | x C, blocking | x C, spinning |" in text
    assert "| ours, uvloop | 100 | 90.0-110 | 2.00 | 0.50 | - |" in text
    assert "| C, blocking | 200 | 200-200 | 4.00 | 1.00 | - |" in text


def test_the_table_of_bursts_compares_cpu_time_too():
    made = results(BURST, {OURS: [100]}, cpu_ns=10)
    made.add(BURST, THEIRS, 0, {"n": 50, "seconds": 1.0, "user_ns": 750, "cpu_ns": 1500})
    assert "| ours, uvloop | 100 | 10.0 | 5.0 | 100-100 | 2.00 | - | - | 3.00 |" in report(made, [BURST], {}, [])


def test_the_rows_for_the_readme_are_rows_of_the_report():
    made = results(ECHO, {OURS: [100], THEIRS: [50]})
    made.add(BURST, OURS, 0, {"n": 10, "seconds": 1.0, "user_ns": 1000, "cpu_ns": 2000})
    rows = summary(made, "client")
    assert rows[-2] == "| ours, uvloop | 100 | - | 200 | - | 2.00 / - | - |"
    assert "\n".join(rows) in report(made, [ECHO, BURST], {}, [])
    assert summary(made, "server") == []


def test_charts_show_medians_and_who_is_who():
    made = results(ECHO, {BUSY: [400], OURS: [100, 300, 200], THEIRS: [50], BLOCKING: [500], SPINNING: [900]})
    (panel,) = panels(made)
    assert panel.title == "Round trips a second, 256 B, TCP"
    assert panel.bars == [
        ("ours, busy polling", 400, "ours"),
        ("ours", 200, "ours"),
        ("picows 2.3.1", 50, "peer"),
        ("C, blocking", 500, "limit"),
        ("C, spinning", 900, "limit"),
    ]


def test_a_chart_has_the_limit_that_spins_only_beside_who_polls():
    (panel,) = panels(results(ECHO, {OURS: [200], BLOCKING: [500], SPINNING: [900]}))
    assert [bar.label for bar in panel.bars] == ["ours", "C, blocking"]


def test_how_much_of_its_core_a_spinning_program_had():
    made = Results()
    for number, had in enumerate((0.2, 0.9, 1.0)):
        made.add(BURST, SPINNING, number, {"n": 1, "seconds": 1.0, "user_ns": 0, "cpu_ns": had * 1e9})
    assert made.quiet() == 0.9
    assert results(ECHO, {OURS: [200]}).quiet() is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"error": "ValueError: no"}', "ValueError: no"),
        (b"Traceback", "expected a JSON object, found b'Traceback'"),
        (b"3", "expected a JSON object, found b'3'"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(line, reason):
    with pytest.raises(Failure, match=reason):
        parse_answer(line)


def test_a_burst_counts_only_if_every_frame_arrived():
    result = {"n": 10, "seconds": 0.1}
    assert checked(result, BURST, 10) is result
    with pytest.raises(Failure, match="expected 11 frames, found 10"):
        checked(result, BURST, 11)
    with pytest.raises(Failure, match="expected something to have been measured"):
        checked({"n": 0, "seconds": 0.1}, BURST, 0)


def test_who_takes_part():
    echo = programs_of(ECHO, LIBRARIES)
    assert echo[0] == BUSY
    assert echo[-2:] == [BLOCKING, SPINNING]
    assert Program("websocket-rs", "uvloop") in echo
    server = programs_of(Cell("server", "tcp", "echo", 256), LIBRARIES)
    assert not {BUSY, Program("websocket-rs", "uvloop")} & set(server)
    burst = programs_of(BURST, ["ours", "aiohttp"])
    assert Program("ours", "asyncio", "cython") in burst
    assert Program("aiohttp", "asyncio", "cython") not in burst


def test_the_rival_is_the_other_picows_in_the_same_circumstances():
    assert Program("ours", "asyncio", "cython").rival == Program("picows", "asyncio", "cython")
    assert BUSY.rival == BUSY_CYTHON.rival == BLOCKING.rival == THEIRS


def test_only_limits_each_dimension_by_its_words():
    options = parse(["--only", "client,echo,256,ours,picows"])
    assert options.takes(ECHO)
    assert not options.takes(BURST)
    assert not options.takes(Cell("server", "tcp", "echo", 256))
    assert options.takes(OURS)
    assert not options.takes(Program("aiohttp", "uvloop"))
    assert options.takes(BLOCKING)
    with pytest.raises(ValueError, match=r"role: client, server; .*; found 'clients'"):
        parse_only("clients")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--rounds", "0"], "--rounds: expected at least 1, found 0"),
        (["--seconds", "0"], "--seconds: expected more than 0 and at most 60, found 0"),
        (["--only", "sideways"], "found 'sideways'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(arguments, reason, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert reason in capsys.readouterr().err


def test_a_library_that_needs_a_newer_python_is_said_to(monkeypatch, tmp_path):
    monkeypatch.setitem(LIBRARIES, "websocket-rs", dataclasses.replace(LIBRARIES["websocket-rs"], python=(4, 0)))
    pythons, absent = find_pythons(["ours", "websocket-rs"], tmp_path)
    assert pythons == {"ours": Path(sys.executable)}
    assert absent == {"websocket-rs 0.7.10": "needs Python 4.0"}
    assert list(tmp_path.iterdir()) == []


def test_sizes_have_names():
    assert [size_name(size) for size in (64, 1024, 65536, 1048576)] == ["64 B", "1 KiB", "64 KiB", "1 MiB"]
