from __future__ import annotations

from measuring.charts import Bar
from pipeline import LIMIT, OURS, Program, panels


def test_charts_show_medians_of_everybody_but_the_reference_engine():
    programs = [
        Program(title, lambda kinds: iter(())) for title in (*(o.title for o in OURS.values()), LIMIT, "theirs")
    ]
    records = [
        {"title": title, "what": what, "round": number, "ns": ns * number}
        for number in (1, 2, 3)
        for title, what, ns in (
            (OURS["cython"].title, "all", 100),
            (OURS["reference"].title, "all", 900),
            (LIMIT, "all", 50),
            ("theirs", "all", 2000),
            (OURS["cython"].title, "trade", 80),
        )
    ]
    everything, trades = panels(records, programs, ["all", "depth", "trade"])
    assert everything.title == "CPU ns for a message: all"
    assert everything.is_log
    assert everything.bars == [
        Bar("ours, to the Cython strategy", 200, "ours"),
        Bar("C++, tick book", 100, "limit"),
        Bar("theirs", 4000, "peer"),
    ]
    assert trades.bars == [Bar("ours, to the Cython strategy", 160, "ours")]
