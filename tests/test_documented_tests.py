"""README and docs name tests and files that exist: a claim can be followed to what holds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"`((?:[\w-]+/)+[\w-]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_tests_that_a_page_names_are_there(page: Path) -> None:
    for path, test in NAMED.findall(page.read_text(encoding="utf-8")):
        places = [folder / path for folder in (ROOT, ROOT / "tests", ROOT / "pipelines")]
        found = [place for place in places if place.is_file()]
        assert found, f"{page.name} names {path}"
        assert not test or f"def {test}(" in found[0].read_text(encoding="utf-8"), test
