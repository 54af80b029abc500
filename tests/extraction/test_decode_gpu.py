"""The whole way of --decode gpu."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from featcache import MachineError, Summary
from featcache.extraction import job
from featcache.trunks import nvjpeg, trunk
from tests.conftest import single_thread, write_images
from tests.extraction.runs import counts

Extract = Callable[..., Summary]


one_thread = pytest.fixture(autouse=True)(single_thread)


def test_decoding_on_a_gpu_needs_one(extract, small, tmp_path):
    """--decode gpu on a CPU: one error that says the way out, and no store is left behind."""
    with pytest.raises(MachineError, match=r"this runs on cpu\. .* or extract with --decode exact"):
        extract(small, decode="gpu")
    assert not list((tmp_path / "cache").glob("features/*"))


def test_images_that_the_device_decodes(extract, load, tmp_path, monkeypatch):
    """The whole way of --decode gpu, a CPU in the GPU's place: a store of its own, near the exact one row by row.

    What the decoder refuses is a named row; a new making is held against the old one.
    """

    def decode_jpeg(files, **kept):
        try:
            return real(files, **kept)
        except RuntimeError:  # in the words of a GPU's decoder
            raise RuntimeError("Error while decoding JPEG images: nvjpegDecode failed: 3") from None

    real = nvjpeg.decode_jpeg
    monkeypatch.setattr(nvjpeg, "decode_jpeg", decode_jpeg)
    for module in (job, trunk):
        monkeypatch.setattr(module, "require_decoder", lambda decoder, device: None)
    photos = write_images(tmp_path / "photos", {"train": {"0": 6, "1": 5}}, kind="jpg")
    Image.open(next(photos.rglob("*.jpg"))).save(photos / "train" / "0" / "other.png")
    sound = (photos / "train" / "1" / "0000.jpg").read_bytes()
    at = sound.index(b"\xff\xc4") + 5  # its Huffman tables
    (photos / "train" / "1" / "bad.jpg").write_bytes(sound[:at] + b"\xff" * 16 + sound[at + 16 :])
    found = extract(photos, decode="gpu", max_bad=0.5)
    assert counts(found) == (12, 0, 1)
    ((path, reason),) = found.failures
    assert path.endswith("bad.jpg")
    assert reason.startswith("the GPU cannot decode it (--decode exact may)")
    assert counts(extract(photos, decode="gpu", max_bad=0.5)) == (0, 12, 1)
    extract(photos, max_bad=0.5)
    near, exact = (load(photos, store=store) for store in (found.store, extract(photos, max_bad=0.5).store))
    assert near.paths == exact.paths
    assert (np.linalg.norm(near.x - exact.x, axis=1) / np.linalg.norm(exact.x, axis=1)).max() < 0.05
    write_images(photos, {"train": {"2": 3}}, kind="jpg")
    more = extract(photos, decode="gpu", max_bad=0.5, batch_size=8)
    assert counts(more) == (3, 12, 1)
    assert more.drift is not None
    assert (more.drift.compared, more.drift.cosine) == (8, 0.0)
