"""featcache.embed: images of one's own become the rows that extract writes for them."""

import contextlib
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache import DataError, MachineError, Settings, UsageError
from tests.conftest import ARCH


@pytest.fixture(scope="module")
def trunk(nano) -> dict[str, str]:
    return {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}


@pytest.fixture(scope="module")
def photographs(hymenoptera, trunk, tmp_path_factory):
    """Real photographs with the rows that extract wrote for them: their paths, and (rows, dim)."""
    where = {"data": str(hymenoptera), "cache": tmp_path_factory.mktemp("extracted")}
    featcache.extract("val", settings=Settings(device="cpu", max_bad=1), **trunk, **where)
    rows = featcache.load("val", **where)
    return [hymenoptera / path for path in rows.paths[:40]], rows.x[:40]


@pytest.fixture
def elsewhere(trunk, tmp_path) -> dict[str, object]:
    """Options that name the trunk, and a cache that is not there."""
    return {**trunk, "data": str(tmp_path), "cache": tmp_path / "none", "device": "cpu"}


def test_files_get_the_rows_that_extract_writes(photographs, elsewhere):
    """Bit for bit, in the order of the paths, a path twice included; nothing is written, not even a cache folder."""
    paths, rows = photographs
    found = featcache.embed([*paths, paths[3]], **elsewhere)
    assert (found.dtype, found.shape) == (np.float32, (41, 64))
    assert found.tobytes() == np.vstack([rows, rows[3:4]]).tobytes()
    assert not Path(str(elsewhere["cache"])).exists()


def test_opened_images_and_arrays_get_the_rows_of_their_files(photographs, elsewhere):
    """Pillow's images and RGB arrays are prepared as the file is; paths, images and arrays may stand in one list."""
    paths, rows = photographs
    kinds = (str, Image.open, lambda path: np.asarray(Image.open(path).convert("RGB")))
    mixed = [kinds[number % 3](path) for number, path in enumerate(paths[:12])]
    assert featcache.embed(mixed, **elsewhere).tobytes() == rows[:12].tobytes()


def test_no_data_set_need_be_named(photographs, trunk, tmp_path, monkeypatch):
    """In a folder without a recipe, images and a trunk are enough."""
    monkeypatch.chdir(tmp_path)
    paths, rows = photographs
    assert featcache.embed(paths[:2], **trunk, device="cpu").tobytes() == rows[:2].tobytes()


def test_several_layers_are_those_of_one_forward(photographs, elsewhere):
    """Each layer has the rows that it has alone, files and opened images alike; `embed` names this function."""
    paths, _ = photographs
    images = [*paths[:3], Image.open(paths[3])]
    layers = featcache.embed_layers(images, layer=["cls", "mean", "tokens"], **elsewhere)
    assert {name: rows.shape for name, rows in layers.items()} == {
        "cls": (4, 64), "mean": (4, 64), "tokens": (4, 16 * 64),
    }  # fmt: skip
    assert layers["cls"].tobytes() == featcache.embed(images, layer="cls", **elsewhere).tobytes()
    assert np.abs(layers["tokens"].reshape(4, 16, 64).mean(axis=1) - layers["mean"]).max() < 0.01  # of float16
    assert [rows.shape for rows in featcache.embed_layers([], layer=["mean", "cls"], **elsewhere).values()] == [
        (0, 64)
    ] * 2
    with pytest.raises(UsageError, match=r"layer is cls, mean, expected one; embed_layers\(\)"):
        featcache.embed(images, layer=["cls", "mean"], **elsewhere)


def test_what_one_layers_store_lacks_is_embedded_for_it(hymenoptera, trunk, tmp_path):
    """Where a cache holds one of two layers, its rows are read, and the other's are computed."""
    paths = sorted((hymenoptera / "val" / "ants").glob("*.jpg"))[:4]
    (tmp_path / "photos" / "train" / "ants").mkdir(parents=True)
    for path in paths:
        (tmp_path / "photos" / "train" / "ants" / path.name).write_bytes(path.read_bytes())
    where = {"data": str(tmp_path / "photos"), "cache": tmp_path / "cache"}
    featcache.extract("train", settings=Settings(device="cpu"), **trunk, **where)
    layers = featcache.embed_layers(paths, layer=["mean", "cls"], device="cpu", **trunk, **where)
    assert layers["cls"].tobytes() == featcache.load("train", **where).x.tobytes()
    assert layers["mean"].shape == (4, 64)


def test_one_image_is_one_row(photographs, elsewhere):
    """A path, a PIL image or an array alone is (1, dim); an array of four dimensions is several images."""
    paths, rows = photographs
    pixels = np.asarray(Image.open(paths[0]).convert("RGB"))
    for image in (paths[0], str(paths[0]), Image.open(paths[0]), pixels, pixels[None], iter([paths[0]])):
        assert featcache.embed(image, **elsewhere).tobytes() == rows[:1].tobytes()
    assert featcache.embed(np.stack([pixels, pixels]), **elsewhere).shape == (2, 64)
    assert featcache.embed([], **elsewhere).shape == (0, 64)


def test_every_kind_of_file_gives_what_pillow_opens_of_it(elsewhere, tmp_path):
    """Grey, 16-bit, palette and transparent images: the PIL image has the row of its file, a grey array that of its."""
    colours = np.random.default_rng(0).integers(0, 255, (40, 50, 4), dtype=np.uint8)
    wide = np.linspace(0, 65535, 2000).reshape(40, 50).astype(np.uint16)
    images = {
        "grey.png": Image.fromarray(colours[..., 0]), "alpha.png": Image.fromarray(colours),
        "wide.png": Image.fromarray(wide), "palette.gif": Image.fromarray(colours[..., :3]).quantize(16),
    }  # fmt: skip
    for name, image in images.items():
        image.save(tmp_path / name)
    (tmp_path / "wide.pgm").write_bytes(b"P5 50 40 65535\n" + wide.astype(">u2").tobytes())
    names = [*images, "wide.pgm"]
    files = featcache.embed([tmp_path / name for name in names], **elsewhere)
    with contextlib.ExitStack() as files_to_close:
        pictures = [files_to_close.enter_context(Image.open(tmp_path / name)) for name in names]
        opened = featcache.embed(pictures, **elsewhere)
    assert opened.tobytes() == files.tobytes()
    assert featcache.embed(colours[..., 0], **elsewhere).tobytes() == files[:1].tobytes()


def test_an_orientation_tag_counts_for_an_opened_image_as_for_its_file(elsewhere, trunk, tmp_path):
    """Ignored by default, applied where the recipe says exif = "apply"."""
    recipe = tmp_path / "turned.toml"
    recipe.write_text(f'name = "t"\n[data]\nroot = "{tmp_path}"\n[trunk]\narch = "{ARCH}"\nexif = "apply"\n')
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(1).integers(0, 255, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    rows = []
    for options in (elsewhere, {**elsewhere, "pipeline": str(recipe)}):
        file, opened = featcache.embed([tmp_path / "turned.png", Image.open(tmp_path / "turned.png")], **options)
        assert file.tobytes() == opened.tobytes()
        rows.append(file)
    assert rows[0].tobytes() != rows[1].tobytes()


def test_what_the_store_holds_is_not_computed_again(photographs, hymenoptera, trunk, tmp_path):
    """Where the store of the trunk has every image, its rows are read: torch is not even imported."""
    paths, rows = photographs
    where = {**trunk, "data": str(hymenoptera), "cache": str(tmp_path / "cache")}
    featcache.extract("val", settings=Settings(device="cpu", max_bad=1), **where)
    code = (
        "import sys, featcache\n"
        f"rows = featcache.embed({[str(path) for path in paths]}, device='cpu', **{where})\n"
        "print('torch' in sys.modules, hashlib.sha256(rows.tobytes()).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", f"import hashlib\n{code}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", hashlib.sha256(rows.tobytes()).hexdigest()]


def test_float16_rows_are_rounded_as_the_store_rounds_them(photographs, elsewhere):
    """With `stored` float16 the rows are float32 with the values of float16."""
    paths, rows = photographs
    found = featcache.embed(paths[:3], stored="float16", **elsewhere)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows[:3].astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            np.zeros((3, 32, 32), np.uint8),
            r"images is ndarray of uint8 \(3, 32, 32\), expected .*height, width, 3",
        ),
        (np.zeros((32, 32, 3)), r"images is ndarray of float64 \(32, 32, 3\)"),
        ([np.zeros((8, 8), np.uint8), 7], r"images\[1\] is of type int, expected a path, a PIL image, or an array"),
        ([""], r"images\[0\] is an empty string"),
        (b"bytes", "images is of type bytes"),
        (None, "images is of type NoneType"),
        ({"a.png": 1}, "images is of type dict"),
    ],
)
def test_what_is_no_image_is_refused_by_its_place(images, said, elsewhere):
    """Exit class 2 and a TypeError, with what was found and what is expected, before any weights are read."""
    with pytest.raises(UsageError, match=said) as refused:
        featcache.embed(images, **elsewhere)
    assert isinstance(refused.value, TypeError)


def test_an_image_that_cannot_be_used_is_named_and_nothing_is_returned(photographs, elsewhere, tmp_path):
    """A file that is not there, a damaged one, a folder, a PIL image whose file is cut off: exit class 4."""
    paths, _ = photographs
    (tmp_path / "cut.jpg").write_bytes(paths[0].read_bytes()[:2000])
    for bad in (tmp_path / "none.jpg", tmp_path / "cut.jpg", tmp_path):
        with pytest.raises(DataError, match=f"{bad}: .*No embeddings are returned"):
            featcache.embed([paths[0], bad], **elsewhere)
    with Image.open(tmp_path / "cut.jpg") as opened, pytest.raises(DataError, match=r"images\[1\]: damaged or cut off"):
        featcache.embed([paths[0], opened], **elsewhere)


def test_weights_that_are_not_there_are_missed(photographs, elsewhere, tmp_path):
    """Exit class 5, as for extract."""
    paths, _ = photographs
    with pytest.raises(MachineError, match=r"none\.pth"):
        featcache.embed(paths[:1], **{**elsewhere, "weights": str(tmp_path / "none.pth")})
