from __future__ import annotations

import pytest
from measuring import row, write_section


@pytest.fixture
def results(tmp_path):
    return tmp_path / "RESULTS.md"


def test_a_section_replaces_the_one_of_its_title_and_no_other(results):
    results.write_text("# One\n\nold\n\n## Part\n\nof one\n\n# Two\n\nstays\n")
    write_section("# One\n\nnew\n", results)
    assert results.read_text() == "# One\n\nnew\n\n# Two\n\nstays\n"
    write_section("# Two\n\nnew too", results)
    assert results.read_text() == "# One\n\nnew\n\n# Two\n\nnew too\n"


def test_a_new_section_goes_to_the_end(results):
    write_section("# One\n\ntext\n", results)
    write_section("# Two\n\ntext\n", results)
    assert results.read_text() == "# One\n\ntext\n\n# Two\n\ntext\n"


def test_a_section_needs_a_title(results):
    with pytest.raises(ValueError, match="expected a section to begin with '# ', found '## Part'"):
        write_section("## Part\n", results)


def test_a_row():
    assert row(["ours", "1,234"]) == "| ours | 1,234 |"
