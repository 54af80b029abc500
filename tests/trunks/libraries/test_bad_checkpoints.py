"""Checkpoints that are not those of the network that is named: each is refused whole, with the message in the docs."""

import pytest

for library in ("timm", "transformers", "open_clip"):
    pytest.importorskip(library)
from tests.trunks.libraries.bad_checkpoints import PAGE, page, rows  # noqa: E402 (it imports the libraries)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    return rows(tmp_path_factory.mktemp("networks").resolve())


def test_every_wrong_input_is_refused(listed):
    """Every wrong file, folder and name is refused, of every library; the right file of each loads."""
    loaded = [(label, what) for label, what, message in listed if message == "loaded"]
    assert {what for _, what in loaded} == {"nothing is wrong"}
    assert len(loaded) == len({label for label, what, _ in listed if what == "a bare pickle"})


def test_every_message_is_one_of_ours(listed):
    """A message ends with the exit code of an error that a user can mend; it is no traceback."""
    for label, what, message in listed:
        assert message == "loaded" or message.endswith(("(exit 2)", "(exit 5)")), (label, what, message)
        assert "Traceback" not in message, (label, what)


def test_the_page_shows_what_is_said(listed):
    """The table in the docs is what these inputs give: `python -m tests.trunks.libraries.bad_checkpoints` writes it."""
    text = PAGE.read_text("utf-8")
    assert page(listed, text) == text
