"""Published weights that have to be fetched, with and without a network."""

import io
import pickle
import time
from pathlib import Path

import pytest
import torch

from featcache.trunks import weights
from featcache.trunks.architectures import architecture
from tests.trunks.saving import Canary, refused, saved

NANO = architecture("vit_nano_16")


B_16 = architecture("vit_b_16")


# --- published weights ----------------------------------------------------------------------------------------------
@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """No network, whatever the machine has, and an empty torch home; gives the folder of the checkpoints."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/checkpoints"


def test_weights_out_of_reach_say_what_to_do(offline, capsys):
    """Without a network the error names the file to bring, where to put it, and the other ways; stdout stays empty."""
    said = refused("IMAGENET1K_V1", B_16)
    assert "weights IMAGENET1K_V1 of vit_b_16 could not be downloaded: " in said
    assert f"Copy vit_b_16-c867db91.pth to {offline}" in said
    assert "--weights FILE" in said
    assert "--weights random" in said
    assert capsys.readouterr().out == ""
    assert not list(offline.glob("*"))


@pytest.mark.parametrize("content", ["garbage", "nothing", "pickle", "canary", "checkpoint"])
def test_a_download_that_is_not_what_its_name_says_is_never_opened(offline, tensors, tmp_path, content):
    """A file in the download's place whose sha256 is wrong is refused before a byte of it is unpickled."""
    offline.mkdir(parents=True)
    file = offline / "vit_b_16-c867db91.pth"
    buffer = io.BytesIO()
    torch.save({"x": Canary(tmp_path / "sang")}, buffer)
    file.write_bytes(
        {"garbage": b"garbage", "nothing": b"", "pickle": pickle.dumps(Canary(tmp_path / "sang"))}.get(
            content, buffer.getvalue()
        )
    )
    if content == "checkpoint":
        saved(file, dict(tensors))
    said = refused("IMAGENET1K_V1", B_16)
    assert f"{file}: its sha256 does not start with c867db91: damaged. Remove it" in said
    assert not (tmp_path / "sang").exists()
    assert file.exists()


def test_reachable_is_a_question_with_a_time_limit(offline):
    """Weights on disk are in reach; without a network they are not, and the answer does not take longer than asked."""
    begun = time.monotonic()
    assert not weights.is_reachable(B_16, "IMAGENET1K_V1", 2.0)
    assert time.monotonic() - begun < 4.0
    offline.mkdir(parents=True)
    (offline / "vit_b_16-c867db91.pth").touch()
    assert weights.is_reachable(B_16, "IMAGENET1K_V1", 2.0)
