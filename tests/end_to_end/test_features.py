"""--features from the images to a page: two layers of one forward, and every command on both side by side."""

import json

import numpy as np
import pytest

from tests.conftest import Nano
from tests.end_to_end.conftest import Run


@pytest.mark.slow
def test_every_command_takes_features(run: Run, nano: Nano, folder, tmp_path):
    """Extract, fit-head, fit, report, compare, predict, export and export-model work on cls+mean."""
    where = ("--data", folder)
    assert run("extract", *where, *nano.flags, "--layer", "cls", "--layer", "mean").code == 0
    both = (*where, "--features", "cls+mean")
    fitted = run("fit-head", *both, "--lr", "0.05", "--epochs", "5", "--no-check")
    assert fitted.code == 0
    assert "--features cls+mean" in fitted.out.splitlines()[-1]
    assert run("fit", "ridge", *both).code == 0
    page = tmp_path / "page.html"
    assert run("report", "1", *both, "--html", page).code == 0
    text = page.read_text()
    assert "--layer cls --layer mean" in text
    assert "featcache fit-head" in text
    assert "--features cls+mean" in text
    heads = json.loads(run("compare", *where, "--json").out)["heads"]
    assert {head["features"] for head in heads} == {"cls+mean"}
    image = next(folder.rglob("test/**/*.png"), None) or next(folder.rglob("*.png"))
    predicted = json.loads(run("predict", "1", image, *both, "--json").out)
    assert (predicted["rows"], predicted["failed"]) == (1, 0)
    assert run("export", "train", "--to", tmp_path / "x.npz", *both).code == 0
    with np.load(tmp_path / "x.npz") as file:
        assert file["embeddings"].shape[1] == 2 * 64
    assert run("export-model", "1", "--to", tmp_path / "model.pt", *both).code == 0
    refused = run("fit-head", *where, "--features", "cls+grid2")
    assert refused.code == 3
    assert "`featcache extract --arch" in refused.err
    assert "--layer grid2" in refused.err
