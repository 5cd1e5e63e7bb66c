"""The page that says what is promised names tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_test_that_the_page_names_is_there():
    named, file = [], ""
    for found in re.finditer(r"`(test_\w+\.py)?(?:::(test_\w+))?`", PAGE.read_text("utf-8")):
        file = found[1] or file  # "::name" alone is of the file before.
        named.append((file, found[2]))
        if found[2]:
            assert f"def {found[2]}(" in (TESTS / file).read_text("utf-8"), found[0]
        else:
            assert (TESTS / file).is_file(), found[0]
    assert len(named) > 30


def test_every_promise_is_shown_by_something():
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    assert promises
    for row in promises:
        shown_by = row.rstrip(" |").split(" | ")[-1]
        assert "`test_" in shown_by or "by hand: `" in shown_by or shown_by == "the same", row
