"""The same photographs as folder, tar, Parquet and saved data set: one store, four listings, and a page for each."""

from collections.abc import Callable
from pathlib import Path

import pytest

import featcache
from featcache import Settings
from featcache.containers import MemberPath, read_member, split_member_path
from featcache.dataset import DatasetRequest
from featcache.evaluation import predict_on_split
from featcache.files import StatLog
from featcache.media import decode_preview
from featcache.report.page import build_page, save_html
from featcache.report.page.gallery import EDGE
from featcache.store import find_stores
from tests.conftest import ARCH, Nano, Ran, single_thread
from tests.end_to_end.test_videos import thumbnails_of
from tests.packed import as_parquet, as_saved, as_webdataset

ROWS = {"train": 245, "val": 153}  # of the photographs
PACKINGS = {"shards": as_webdataset, "hub": as_parquet, "saved": as_saved}

one_thread = pytest.fixture(autouse=True)(single_thread)


def test_photographs_in_four_forms_are_one_store_with_four_listings(
    hymenoptera: Path, nano: Nano, tmp_path: Path
) -> None:
    """398 rows whatever the form; each form has its listing, its head, and a page with the thumbnail of every image."""
    cache, settings = tmp_path / "cache", Settings(device="cpu", workers=2)
    trunk = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": cache}
    forms = {"hymenoptera": hymenoptera} | {name: pack(hymenoptera, tmp_path / name) for name, pack in PACKINGS.items()}
    for name, root in forms.items():
        parts = featcache.extract(data=str(root), settings=settings, **trunk)
        assert {part.split: part.rows for part in parts} == ROWS
        assert {part.split: part.embedded for part in parts} == (
            ROWS if name == "hymenoptera" else dict.fromkeys(ROWS, 0)
        )
    (store,) = find_stores(cache, StatLog(cache))
    assert store.rows == sum(ROWS.values())
    assert set(store.listings) == {(name, "all", split) for name in forms for split in ROWS}
    for name, root in forms.items():
        where = {"data": str(root), "cache": cache}
        featcache.fit_head(0.01, epochs=2, check_seconds=None, device="cpu", **where)
        page = tmp_path / f"{name}.html"
        shown = save_html(build_page(predict_on_split(DatasetRequest(**where), None, split="val")), page)
        assert (shown.wanted, shown.unread, shown.note) == (153, 0, "")
        pictures = thumbnails_of(page.read_text("utf-8"))
        assert len(pictures) == 153
        path, thumbnail = pictures[0]
        assert ("#" in path) == (name != "hymenoptera")
        data = read_image(root, path)
        assert abs(thumbnail.astype(float) - decode_preview(data, EDGE)).mean() < 12, path  # WebP is lossy


def read_image(root: Path, path: str) -> bytes:
    """Return the bytes of the image that a row's path names."""
    if "#" not in path:
        return (root / path).read_bytes()
    container, key = split_member_path(path)
    return read_member(MemberPath(str(root / container), key), 1 << 24)


def test_a_whole_tar_and_an_image_in_it_are_predicted(
    folder: Path, nano: Nano, tmp_path: Path, run: Callable[..., Ran]
) -> None:
    """A container is named like a folder; each line, the table and the contact sheet name the image's key."""
    shards = as_webdataset(folder, tmp_path / "shards")
    cache = ("--cache", str(tmp_path / "cache"))
    assert run("extract", str(shards), *cache, *nano.flags).code == 0
    assert run("fit-head", str(shards), *cache, "--lr", "0.05", "--epochs", "2", "--no-check").code == 0
    table, sheet = tmp_path / "p.csv", tmp_path / "p.png"
    tar = shards / "test-0.tar"
    named = (tar, f"{tar}#00003.png", f"{tar}#nothing.png")
    predicted = run("predict", "best", *named, "--data", str(shards), *cache, "--csv", table, "--png", sheet)
    assert predicted.code == 0, predicted.err
    assert "test-0.tar#nothing.png: the tar file has no such member" in predicted.err
    rows = table.read_text().splitlines()[1:]
    assert len(rows) == 12 + 2
    assert rows[3] == rows[12]
    assert sheet.stat().st_size > 10_000

    near = run("predict", "best", f"{tar}#0003.png", "--data", str(shards), *cache)
    assert near.code == 4
    assert near.err.startswith(f"error: {tar}#0003.png: the tar file has no such member; did you mean {tar}#00003.png?")
    assert near.err.splitlines()[-1].startswith(f"try: featcache predict best '{tar}#00003.png' --data ")
    table = as_parquet(folder, tmp_path / "hub") / "data" / "test-00000-of-00001.parquet"
    near = run("predict", "best", f"{table}#3", "--data", str(shards), *cache)
    assert f"the table has 12 rows, the first is number 0; did you mean {table}#000003?" in near.err
    assert near.err.splitlines()[-1].startswith(f"try: featcache predict best '{table}#000003' --data ")
