"""A hub that is out of reach is said to be so in seconds, and not after a minute of its client's trying."""

import time

import pytest

from featcache.errors import MachineError
from featcache.trunks.libraries import hub_reach

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def out_of_reach(tmp_path, monkeypatch):
    """A hub at an address where nobody listens, and an empty cache of it."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_the_client_reads_its_cache_alone_where_the_hub_does_not_answer(out_of_reach):
    """Only within; afterwards it is as it was."""
    with hub_reach.brief_hub():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_never_answers_is_waited_for_a_moment(monkeypatch):
    """The look-up of its name has no time limit of its own."""
    monkeypatch.setattr(hub_reach, "_SECONDS", 0.05)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: time.sleep(1))
    began = time.monotonic()
    assert not hub_reach.is_hub_in_reach()
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("arch", ["timm:test_vit.r160_in1k", "open_clip:ViT-B-32/laion2b_s34b_b79k", "hf:nobody/none"])
def test_weights_that_nobody_named_are_refused_in_seconds(arch, out_of_reach):
    """The error says what to name instead; a network of one's own is not confused with it."""
    library, _, name = arch.partition(":")
    pytest.importorskip({"hf": "transformers"}.get(library, library))
    from featcache.trunks.libraries.registry import library_of

    began = time.monotonic()
    with pytest.raises(MachineError, match="out of reach") as caught:
        library_of(arch)[0].load(name, "pretrained", 0)
    assert time.monotonic() - began < 10
    assert library == "hf" or "--weights FILE; --weights random" in str(caught.value)
