"""A kind of model is one module: what nobody else has heard of is ranked, reported, compared and verified."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.errors import CacheError
from featcache.files.sealed import unseal_document
from featcache.heads.classifiers import ModelOutput, SearchTrial
from featcache.heads.linear import Scores
from featcache.heads.saved import folders, kinds, run_log
from featcache.heads.saved.model import ModelKind, refuse_other_trunk
from tests.builders import CLASSES, record_clusters, scored_head
from tests.heads.saved.test_find import WHERE, made

DOCUMENT = "constant.json"


@dataclass
class Constant:
    """A model that predicts one class, whatever it is shown."""

    name: str
    folder: Path
    label: int
    sources: dict[str, dict[str, str]]
    kind: str = "constant"
    command: str = "fit"
    classes: tuple[str, ...] = CLASSES
    train: Scores | None = None
    val: Scores | None = field(default_factory=lambda: Scores(0.9, 0.9, 0.1))
    predictions: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    has_diverged: bool = False
    gives_probabilities: bool = False
    layer: None = None
    output_layer: None = None

    @property
    def settings(self):
        return {"label": self.label}

    @property
    def trials(self):
        return (SearchTrial(settings=self.settings, val=self.val, seconds=0.0),)

    def facts(self):
        return [("constant", CLASSES[self.label])]

    def predict(self, features):
        refuse_other_trunk(self, features.source["trunk"])
        return ModelOutput(np.full(len(features.y), self.label), None)

    def predict_probabilities(self, x):
        return np.eye(len(CLASSES))[np.full(len(x), self.label)]

    def refuse_unusable(self, store):
        pass


def read_constant(folder: Path) -> Constant:
    document = unseal_document((folder / DOCUMENT).read_bytes())
    if document is None:
        raise CacheError(f"{folder}: damaged")
    return Constant(folder.name, folder, document["label"], document["sources"])


KIND = ModelKind(DOCUMENT, lambda folder, _store, _device: read_constant(folder), read_constant, read_constant)


@pytest.fixture
def constant(tmp_path, monkeypatch):
    """A cache with a head, and a constant that is better on val."""
    monkeypatch.setattr(kinds, "KINDS", (KIND, *kinds.KINDS))
    monkeypatch.setattr(kinds, "MODEL_DOCUMENTS", (DOCUMENT, *kinds.MODEL_DOCUMENTS))
    store = record_clusters(tmp_path, "train", "val", "test")
    made(tmp_path, scored_head(1.0, 0.5))
    train = featcache.load("train", **WHERE, cache=tmp_path)
    sources = {"train": dict(train.source), "val": dict(train.source)}
    folder = folders.heads_folder(store, "toy", "all") / "constant-1"
    folders.publish_model(folder, {}, DOCUMENT, {"label": 1, "sources": sources})
    model = read_constant(folder)
    run_log.record_run(store, train, [model], best=model.name, seconds=1.0)
    return model


def test_a_kind_that_is_listed_serves_every_command(tmp_path, constant):
    """It is best, is compared by its predictions, has a page, and export-model says that it is no layer."""
    comparison = featcache.compare(**WHERE, cache=tmp_path, split="test")
    (line,) = [head for head in comparison.to_json()["heads"] if head["classifier"] == "constant"]
    labels = featcache.load("test", **WHERE, cache=tmp_path).y
    assert line["accuracy"] == pytest.approx((labels == 1).mean())
    assert line["settings"] == "label=1"
    evaluation = featcache.evaluate(**WHERE, cache=tmp_path)
    assert evaluation.head == "constant-1"
    assert evaluation.accuracy == line["accuracy"]
    page = tmp_path / "page.html"
    featcache.save_report(page, "constant-1", **WHERE, cache=tmp_path)
    assert CLASSES[1] in page.read_text()
    with pytest.raises(
        featcache.UsageError, match=r"is the last part of a network; the best head that can be exported is lr1-"
    ):
        featcache.export_model("best", tmp_path / "model.pt", **WHERE, cache=tmp_path)


def test_a_kind_that_is_listed_is_verified_and_repaired(tmp_path, constant):
    """Its own check says what is damaged; repair moves it out of the way."""
    assert featcache.verify(cache=tmp_path) == []
    (constant.folder / DOCUMENT).write_bytes(b"{}")
    (problem,) = featcache.verify(cache=tmp_path)
    assert "damaged" in problem.message
    featcache.repair(cache=tmp_path)
    assert not constant.folder.exists()


def test_a_folder_of_no_kind_is_no_head(tmp_path):
    """A folder without any document is refused in the words of the last kind, which is that of linear heads."""
    with pytest.raises(CacheError, match="no head here"):
        kinds.describe_model(tmp_path)
    assert not kinds.has_model(tmp_path)


def test_every_kind_names_its_own_document():
    """Two kinds with one document could not be told apart."""
    documents = [kind.document for kind in kinds.KINDS]
    assert len(set(documents)) == len(documents) == len(kinds.MODEL_DOCUMENTS)
