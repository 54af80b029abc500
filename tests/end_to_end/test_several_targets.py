"""Several levels and columns of Drive&Act by one fit-head: each is what it is where it is named alone."""

import csv
import json

import numpy as np
import pytest

import featcache
from featcache import UsageError
from featcache.features import EmbeddingPool
from featcache.store import FeatureStore
from tests.builders import OBJECT_HEADER, write_annotations
from tests.conftest import ARCH, Nano
from tests.end_to_end.conftest import Run
from tests.end_to_end.test_first_commands import write_drives

TARGETS = ["midlevel", "objectlevel:object", "objectlevel:location"]


@pytest.fixture(scope="module")
def drives(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Drive&Act's layout with two levels in the cache, the second with two columns; one chunk has no location."""
    folder = tmp_path_factory.mktemp("targets")
    root = write_drives(folder / "drives")
    for person, split in enumerate(("train", "val", "test"), start=1):
        lines = [
            f"{person},vp{person}/run.kinect_color,{frame},{frame},{frame},open,{'ab'[frame % 2]},"
            f"{'' if frame == 5 else ('seat', 'door')[frame // 3]},0"
            for frame in range(6)
        ]
        write_annotations(root, level="objectlevel", header=OBJECT_HEADER, **{split: lines})
    where = {"data": str(root), "cache": str(folder / "cache")}
    trunk = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}
    for target in ({}, *({"level": "objectlevel", "target": column} for column in ("object", "location"))):
        featcache.extract(settings=featcache.Settings(device="cpu", workers=1), **where, **trunk, **target)
    return where


def test_each_target_equals_itself_trained_alone(drives, monkeypatch):
    """Weights and scores to the bit; every embedding is read once, that of a frame that all targets have, too."""
    options = {"epochs": 3, "device": "cpu", "check_seconds": None, **drives}
    reads: list[bytes] = []
    load = FeatureStore.load

    def noted(store: FeatureStore, digests: np.ndarray, *more: object) -> np.ndarray:
        reads.extend(digest.tobytes() for digest in digests)
        return load(store, digests, *more)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "load", noted)
        fits = featcache.fit_targets(TARGETS, [0.1, 0.01], **options)
    assert len(reads) == len(set(reads)) > 0
    alone = [{}, {"level": "objectlevel", "target": "object"}, {"level": "objectlevel", "target": "location"}]
    for word, names in zip(TARGETS, alone, strict=True):
        single = featcache.fit_head([0.1, 0.01], **options, **names)
        for one, other in zip(fits[word].heads, single.heads, strict=True):
            assert np.array_equal(one.head.weight, other.head.weight)
            assert (one.name, one.head.val) == (other.name, other.head.val)
    assert fits["objectlevel:location"].train_rows == fits["midlevel"].train_rows - 1


def test_the_command_shows_every_target_and_the_report_of_all(drives, run: Run):
    """One heading a target, one document in JSON, and one command that comes next: the report of all of them."""
    where = ("--data", drives["data"], "--cache", drives["cache"])
    words = ["fit-head", *where, "--epochs", 2, "--no-check", "--targets", ",".join(TARGETS[::-1])]
    told = run(*words)
    assert told.code == 0, told.err
    assert [line for line in told.out.splitlines() if line.startswith("target ")] == [
        f"target {word}" for word in TARGETS[::-1]
    ]
    assert told.out.splitlines()[-1].startswith(f"next: featcache report --targets {','.join(TARGETS[::-1])} ")
    document = json.loads(run(*words, "--json").out)
    assert [part["target"] for part in document["targets"]] == TARGETS[::-1]


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (["midlevel"], {"level": "midlevel"}, "--level and --targets were both given"),
        (["midlevel", "midlevel"], {}, "--targets: found 'midlevel,midlevel', expected each target once"),
        (["midlevel", "objectlevel:thing"], {}, "target objectlevel:thing: "),
    ],
)
def test_what_is_no_list_of_targets_is_one_sentence(drives, targets, options, message):
    """A level beside them, one twice, a column that there is not."""
    with pytest.raises((UsageError, featcache.CacheError)) as caught:
        featcache.fit_targets(targets, 0.1, epochs=1, device="cpu", **options, **drives)
    assert message in str(caught.value)


def test_a_pool_gives_what_the_store_gives(drives):
    """In any order, with rows that stand twice, and some that were read before."""
    features = featcache.load("train", **drives)
    store = featcache.dataset.DatasetRequest(**drives).store_of("train")
    pool, random = EmbeddingPool(), np.random.default_rng(0)
    for _ in range(4):
        digests = features.digests[random.integers(0, len(features.y), 5)]
        assert np.array_equal(pool.load(store, digests), store.load(digests))
        assert pool.load(store, digests) is pool.load(store, digests)


def test_a_report_of_several_targets_has_the_figures_of_each(drives, tmp_path, run: Run):
    """Those of the report of each alone, in one table, in CSV and in JSON; what is of one target is refused."""
    featcache.fit_targets(TARGETS, [0.1], epochs=2, device="cpu", check_seconds=None, **drives)
    found = featcache.evaluate_columns(TARGETS, **drives)
    alone = featcache.evaluate(level="objectlevel", target="location", **drives)
    assert found["objectlevel:location"].macro_recall == alone.macro_recall
    where = ("--data", drives["data"], "--cache", drives["cache"])
    words = ["report", *where, "--targets", ",".join(TARGETS)]
    told = run(*words, "--csv", tmp_path / "t.csv")
    assert told.code == 0, told.err
    assert all(word in told.out for word in TARGETS)
    assert "3 targets" in told.out
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["target"], row["figure"]) for row in rows[:2]] == [
        ("midlevel", "macro_recall"),
        ("midlevel", "accuracy"),
    ]
    assert float(rows[4]["value"]) == pytest.approx(alone.macro_recall)
    document = json.loads(run(*words, "--json").out)["targets"]
    assert [part["target"] for part in document] == TARGETS
    assert document[2]["macro_recall"] == pytest.approx(alone.macro_recall)
    refused = run(*words, "--html", "x.html")
    assert (refused.code, "--html has no effect with --targets" in refused.err) == (2, True)
    refused = run(*words, "--level", "midlevel")
    assert (refused.code, "--level and --targets were both given" in refused.err) == (2, True)
