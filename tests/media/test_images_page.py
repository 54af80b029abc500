"""docs/images.md says what becomes of every kind of file, and tests hold it."""

from pathlib import Path


def test_every_row_of_the_page_is_here():
    """docs/images.md is held by tests: each test that its table names exists."""
    root = Path(__file__).parents[2]
    page = (root / "docs/images.md").read_text()
    named = {
        cell for line in page.splitlines() if line.startswith("|") for cell in line.split("`") if cell[:5] == "test_"
    }
    folders = ("containers", "end_to_end", "extraction", "faults", "listing", "loader", "media")
    sources = [path for folder in folders for path in (root / "tests" / folder).glob("test_*.py")]
    defined = "".join(path.read_text() for path in sources)
    assert len(named) > 20
    assert not [name for name in named if f"def {name}(" not in defined]
