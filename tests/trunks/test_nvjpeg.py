"""JPEG files decoded by the trunk's device. The CPU stands for a GPU: torchvision decodes on both by the same call."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from featcache import MachineError
from featcache.media import ImageTransform, decode_image
from featcache.recipe import TrunkSection
from featcache.trunks import WeightsMemo, hardware, nvjpeg
from featcache.trunks import trunk as trunk_module
from featcache.trunks.source import TrunkSource
from tests.conftest import ARCH, single_thread

EXACT = ImageTransform(resize=72, crop=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ON_GPU = replace(EXACT, decoder="nvjpeg")

REAL = nvjpeg.decode_jpeg
one_thread = pytest.fixture(autouse=True)(single_thread)


def picture(width: int, height: int, seed: int = 0, kind: str = "JPEG") -> bytes:
    """Smooth shapes, as photographs have them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    waves = [127 + 60 * np.sin(a * x + b * y) + 60 * np.cos(c * x - a * y) for a, b, c in rng.random((3, 3))]
    file = io.BytesIO()
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(file, kind)
    return file.getvalue()


def decoded_by_nobody() -> bytes:
    """A file whose header is sound and whose Huffman tables are not."""
    data = bytearray(picture(90, 80))
    at = data.index(b"\xff\xc4") + 5
    data[at : at + 16] = b"\xff" * 16
    return bytes(data)


def rows(files: list[bytes], transform: ImageTransform = ON_GPU) -> np.ndarray:
    return np.stack([decode_image(data, transform) for data in files])


@pytest.fixture(autouse=True)
def as_nvjpeg_says_it(monkeypatch):
    """What the CPU's decoder says of a bad file, in the words of the GPU's."""

    def decode_jpeg(files, **kept):
        try:
            return REAL(files, **kept)
        except RuntimeError:
            raise RuntimeError("Error while decoding JPEG images: Failed to get image info: 3\nraised at …") from None

    monkeypatch.setattr(nvjpeg, "decode_jpeg", decode_jpeg)


def failing(words: str, *, more_than: int = 0):
    """A decoder that fails, as torchvision says it, of batches that are larger."""

    def decode_jpeg(files, **kept):
        if len(files) > more_than:
            raise RuntimeError(f"Error while decoding JPEG images: {words}\nraised at …")
        return REAL(files, **kept)

    return decode_jpeg


@pytest.fixture
def on_cpu(monkeypatch):
    """Let the CPU stand for a GPU."""
    monkeypatch.setattr(trunk_module, "require_decoder", lambda decoder, device: None)


@pytest.fixture
def trunk(nano, tmp_path, on_cpu) -> trunk_module.Trunk:
    source = TrunkSource(
        TrunkSection(arch=ARCH, weights=str(nano.weights), decode="gpu"), WeightsMemo(tmp_path / "cache")
    )
    return trunk_module.load_trunk(source, source.spec("float32"), device="cpu", batch_size=4)


FILES = [
    picture(90, 80), picture(90, 80, 1), picture(301, 97, 2), picture(97, 301, 3), picture(50, 40, 4, "PNG"),
    picture(90, 80, 5), picture(64, 64, 6),
]  # fmt: skip


def test_a_batch_of_all_sizes_stands_in_its_order():
    """Files of several sizes and formats together: each the picture that --decode exact makes of it, a level apart."""
    found, refused = nvjpeg.decode_rows(torch.from_numpy(rows(FILES)), ON_GPU, "cpu")
    assert (found.shape, found.dtype, refused) == ((7, 3, 64, 64), torch.uint8, ())
    apart = np.abs(found.numpy().astype(int) - rows(FILES, EXACT))
    assert apart.max() <= 2
    assert apart.mean() < 0.3
    np.testing.assert_array_equal(found[4].numpy(), decode_image(FILES[4], EXACT))  # no JPEG: the CPU's own pixels


@pytest.mark.parametrize("words", [{}, {"interpolation": "bicubic"}, {"antialias": False}, {"resize": 65}])
@pytest.mark.parametrize("size", [(301, 97), (97, 301), (64, 64), (40, 30), (1000, 701)])
def test_the_transform_is_torchvisions_of_tensors(words, size):
    """Whatever the words and the size, landscape and portrait: its resize of a float image, and its centre."""
    transform = replace(ON_GPU, **words)
    image = torch.from_numpy(np.asarray(Image.open(io.BytesIO(picture(*size)))).transpose(2, 0, 1).copy())
    method = InterpolationMode(transform.interpolation)
    small = resize(image.float(), [transform.resize], interpolation=method, antialias=transform.antialias)
    expected = center_crop(small, [64, 64]).clamp(0, 255)
    torch.testing.assert_close(nvjpeg.resize_and_crop(image, transform), expected, rtol=0, atol=1e-3)


def test_a_file_that_cannot_be_decoded_costs_itself_alone():
    """One bad file in a batch: it is named, and all others are there."""
    files = [FILES[0], decoded_by_nobody(), FILES[2]]
    found, refused = nvjpeg.decode_rows(torch.from_numpy(rows(files)), ON_GPU, "cpu")
    assert refused == (1,)
    sound, none = nvjpeg.decode_rows(torch.from_numpy(rows([FILES[0], FILES[2]])), ON_GPU, "cpu")
    assert none == ()
    assert torch.equal(found[[0, 2]], sound)


@pytest.mark.parametrize("words", ["CUDA out of memory. Tried to allocate 2 GiB", "Failed to create device buffer: 5"])
def test_memory_that_runs_out_is_no_bad_file(monkeypatch, words):
    """A device without memory is told apart from a file without a picture."""
    monkeypatch.setattr(nvjpeg, "decode_jpeg", failing(words))
    with pytest.raises(torch.OutOfMemoryError):
        nvjpeg.decode_rows(torch.from_numpy(rows(FILES)), ON_GPU, "cpu")
    with pytest.raises(MachineError, match="out of memory for a single image"):
        nvjpeg.require_nvjpeg("cpu")


@pytest.mark.parametrize("words", ["nvjpegDecode failed: 6", "Failed to synchronize CUDA stream: 700", "status: 8"])
def test_a_decoder_that_fails_is_no_bad_file(monkeypatch, words):
    """What is not said of a file ends the run, and names no image."""
    monkeypatch.setattr(nvjpeg, "decode_jpeg", failing(words))
    with pytest.raises(MachineError, match=f"decoder of cpu fails .*{words}.*; try --decode exact"):
        nvjpeg.decode_rows(torch.from_numpy(rows(FILES)), ON_GPU, "cpu")


def test_large_pictures_are_decoded_in_portions(monkeypatch):
    """However many pixels a batch has, so many at a time and no more, or one image; each in its place."""
    expected, _ = nvjpeg.decode_rows(torch.from_numpy(rows(FILES)), ON_GPU, "cpu")
    asked: list[int] = []

    def counted(files, **kept):
        asked.append(len(files))
        return REAL(files, **kept)

    monkeypatch.setattr(nvjpeg, "decode_jpeg", counted)
    monkeypatch.setattr(nvjpeg, "PORTION", 2 * 90 * 80)
    found, _ = nvjpeg.decode_rows(torch.from_numpy(rows(FILES)), ON_GPU, "cpu")
    assert torch.equal(found, expected)
    assert asked == [2, 1, 1, 2]


def test_a_trunk_embeds_files(trunk):
    """Rows in, embeddings near those of the exactly decoded out; from an upload the same bits; a bad file is nan."""
    files = [*FILES, decoded_by_nobody()]
    buffer = trunk.buffer()
    assert buffer.shape == (4, *ON_GPU.shape)
    found = trunk.embed(rows(files))
    buffer[:] = rows(files)[4:]
    np.testing.assert_array_equal(trunk.embed(trunk.upload(buffer)), found[4:])
    assert np.isnan(found[7]).all()
    exact = trunk_module.Trunk(replace(trunk.spec, transform=EXACT), "cpu", 4, trunk.network)
    expected = exact.embed(rows(FILES, EXACT))
    error = np.linalg.norm(found[:7] - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 0.02
    np.testing.assert_array_equal(found[4], expected[4])


def test_memory_that_runs_out_while_it_decodes_halves_the_batch(trunk, monkeypatch):
    """The files are decoded again in smaller batches, and come out as they would have."""
    expected = trunk.embed(rows(FILES[:4]))
    monkeypatch.setattr(nvjpeg, "decode_jpeg", failing("CUDA out of memory", more_than=2))
    with pytest.warns(UserWarning, match="batches of 2"):
        found = trunk.embed(rows(FILES[:4]))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_torchvision_without_the_decoder_is_told_at_once(monkeypatch):
    """What is missing shows when the trunk is loaded, in a sentence."""

    def missing(*_, **__):
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support\nsecond line")

    monkeypatch.setattr(nvjpeg, "decode_jpeg", missing)
    with pytest.raises(MachineError, match=r"cannot decode on cpu \(decode_jpegs_cuda: .* support\); install"):
        nvjpeg.require_nvjpeg("cpu")


def test_only_a_gpu_decodes_for_a_store_of_a_gpu(nano, tmp_path):
    """A trunk of that decoder is refused on a CPU, and every other decoder is not."""
    source = TrunkSource(TrunkSection(arch=ARCH, weights=str(nano.weights), decode="gpu"), WeightsMemo(tmp_path))
    with pytest.raises(MachineError, match=r"--decode gpu: an NVIDIA GPU decodes .* this runs on cpu"):
        trunk_module.load_trunk(source, source.spec("float32"), device="cpu", batch_size=4)
    for decoder, device in (("pillow", "cpu"), ("pillow-fast", "mps"), ("nvjpeg", "cuda:1")):
        hardware.require_decoder(decoder, device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_files_come_out_near_and_always_alike(nano, tmp_path):
    """Files decoded beside a busy forward, 50 times: always the same bits, near the exact decoder's."""
    source = TrunkSource(TrunkSection(arch=ARCH, weights=str(nano.weights), decode="gpu"), WeightsMemo(tmp_path))
    trunk = trunk_module.load_trunk(source, source.spec("float32"), device="cuda", batch_size=8)
    expected = trunk.embed(rows(FILES))
    buffers = [trunk.buffer(), trunk.buffer()]
    for buffer in buffers:
        buffer[:7] = rows(FILES)
    for _ in range(50):
        uploaded = [trunk.upload(buffer[:7]) for buffer in buffers]
        for batch in uploaded:
            np.testing.assert_array_equal(trunk.embed(batch), expected)
    exact = trunk_module.Trunk(replace(trunk.spec, transform=EXACT), "cuda", 8, trunk.network)
    near = exact.embed(rows(FILES, EXACT))
    assert (np.linalg.norm(expected - near, axis=1) / np.linalg.norm(near, axis=1)).max() < 0.05
