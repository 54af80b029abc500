"""fit-head with a head that is a torch module: what is kept, found again, refused, and said in place of a check."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

import featcache
from featcache import CacheError, UsageError
from featcache.files.sealed import seal_document, unseal_document
from featcache.heads.grid import parse_grid
from featcache.heads.saved import load_model, verify_heads
from featcache.heads.saved.linear import load_usable_head
from featcache.store.store import FeatureStore
from tests.builders import cluster_rows, fit_head, record

SPLITS = {"train": cluster_rows(1), "val": cluster_rows(2), "test": cluster_rows(3)}
WHERE = "/data/toy"


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return record(tmp_path, SPLITS)


def fit(store: FeatureStore, lr=0.1, **options):
    return fit_head(store.cache, lr, head="mlp", **{"hidden": 8, **options})


def test_a_head_comes_back_as_it_was_saved(store):
    """Tensors bit for bit, settings, scores and what it answers; nothing but safetensors and JSON is written."""
    best = fit(store, dropout=0.2, batch_norm=True, standardize=True).best
    files = {"head.safetensors", "head.json", "history.csv", "temperature.json"}
    assert {path.name for path in best.folder.iterdir()} == files
    again = load_usable_head(best.folder).head
    assert {name: value.tobytes() for name, value in again.tensors.items()} == {
        name: value.tobytes() for name, value in best.head.tensors.items()
    }
    x = SPLITS["test"][0]
    assert np.array_equal(again.logits(x), best.head.logits(x))
    assert (again.config, again.width, again.train, again.val) == (
        best.head.config, best.head.width, best.head.train, best.head.val,
    )  # fmt: skip
    problems: list[object] = []
    verify_heads(store.root, problems, [])
    assert problems == []


def test_every_command_takes_it_as_a_linear_head(store):
    """report, compare and numbers know it; its kind is mlp, and the best of a grid is the one that val prefers."""
    found = fit(store, [0.001, 0.1], hidden=[4, "8,4"])
    assert [saved.head.config.hidden for saved in found.heads] == ["4", "4", "8,4", "8,4"]
    best = max(found.heads, key=lambda saved: (saved.val.macro_recall, -saved.val.loss))
    assert found.best.name == best.name
    evaluation = featcache.evaluate("1", data=WHERE, cache=store.cache)
    assert evaluation.head == found.heads[0].name
    table = featcache.compare(data=WHERE, cache=store.cache, split="val")
    assert {head.classifier for head in table.heads} == {"mlp"}


def test_the_same_command_gives_the_same_bytes(store, tmp_path_factory):
    """Dropout and first weights follow from the settings."""
    elsewhere = record(tmp_path_factory.mktemp("elsewhere"), SPLITS)
    one, other = (fit(where, dropout=0.5).best.folder / "head.safetensors" for where in (store, elsewhere))
    assert one.read_bytes() == other.read_bytes()
    seeded = fit(store, dropout=0.5, seed=1).best.folder / "head.safetensors"
    assert seeded.read_bytes() != one.read_bytes()


def test_rows_may_stay_on_disk(store):
    """Trained from disk, a head learns what it learns from memory."""
    head = fit(store, from_disk=True, epochs=30, optimizer="adam").best
    assert head.train.accuracy > 0.8


def test_what_stands_in_for_the_check_is_one_sentence(store):
    """There is no optimum to hold it against: it is said, with what the best linear head has on the same val."""
    (note,) = [note for note in fit(store).notes if note.startswith("no check")]
    assert note.endswith(
        "these embeddings have no linear head yet to compare it with: fit-head without --head trains one"
    )
    linear = fit_head(store.cache).best
    found = fit(store, check_seconds="auto")
    (note,) = [note for note in found.notes if note.startswith("no check")]
    assert found.check is None
    assert linear.name in note
    with pytest.raises(UsageError, match="--check-seconds has no effect with --head mlp"):
        fit(store, check_seconds=3)


def test_settings_of_another_head_are_refused(store):
    """With a linear head in one sentence, by flag and in --grid; a recipe that states them may be overruled."""
    with pytest.raises(UsageError, match=r"^--dropout has no effect with --head linear: it is a setting of mlp$"):
        fit_head(store.cache, dropout=0.3)
    with pytest.raises(UsageError, match=r"^--grid hidden has no effect with --head linear"):
        fit_head(store.cache, None, grid="hidden=8 lr=0.1")
    with pytest.raises(UsageError, match="hidden: found '0', expected one to eight numbers from 1 to 99,999"):
        fit(store, hidden=0)


def test_a_grid_separates_layers_by_x():
    """A comma separates values there."""
    assert parse_grid("hidden=512,1024x256 dropout=0,0.3") == {"hidden": ["512", "1024,256"], "dropout": [0, 0.3]}


def test_without_a_rate_a_small_grid_is_trained(store):
    """Three rates, on batches of 64 rows or more."""
    found = fit(store, None, batch_size=None)
    assert [saved.head.config.lr for saved in found.heads] == [0.01, 0.03, 0.1]
    assert {saved.head.config.batch_size for saved in found.heads} == {64}


def rewrite(folder: Path, tensors: dict[str, np.ndarray], **changes: object) -> None:
    """Write other tensors and keys into a head's folder, sealed as a writer would."""
    import hashlib

    data = save(tensors)
    (folder / "head.safetensors").write_bytes(data)
    document = unseal_document((folder / "head.json").read_bytes())
    document |= {"sha256": hashlib.sha256(data).hexdigest(), **changes}
    (folder / "head.json").write_bytes(seal_document(document))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("module.0.bias"), "tensor 'module.0.bias' is none, expected float32"),
        (lambda tensors: tensors.update({"module.9.weight": np.zeros(3)}), "expected none"),
        (lambda tensors: tensors.update({"module.0.bias": np.zeros(9, np.float32)}), "expected float32 (8,)"),
        (lambda tensors: tensors.update({"module.0.bias": np.zeros(8)}), "is float64 (8,)"),
    ],
)
def test_tensors_of_another_make_are_refused(store, change, said):
    """Whoever sealed them: what the settings do not say is one sentence, before anything is computed."""
    folder = fit(store).best.folder
    tensors = load_file(folder / "head.safetensors")
    change(tensors)
    rewrite(folder, tensors)
    with pytest.raises(CacheError) as raised:
        load_model(folder, store)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "changes", [{"width": None}, {"width": 10**9}, {"width": "8"}, {"width": 5}, {"config": {"head": "cnn"}}]
)
def test_a_document_of_another_make_is_refused(store, changes):
    """A width that is missing, no number, or no width of these tensors; and a kind of head that nobody knows."""
    folder = fit(store).best.folder
    rewrite(folder, load_file(folder / "head.safetensors"), **changes)
    with pytest.raises(CacheError):
        load_model(folder, store)


def test_its_settings_are_all_in_head_json(store):
    """A reader needs no defaults of ours; a linear head's document has none of them, as before."""
    document = json.loads((fit(store).best.folder / "head.json").read_text())
    assert document["config"]["head"] == "mlp"
    assert {"hidden", "activation", "dropout", "batch_norm", "normalize"} <= document["config"].keys()
    linear = json.loads((fit_head(store.cache).best.folder / "head.json").read_text())
    assert not {"head", "hidden", "activation", "dropout", "batch_norm"} & linear["config"].keys()
    assert "width" not in linear


def test_a_diverged_head_is_named_and_not_chosen(store):
    """Its loss has no bounds, and a lower rate of the same run is advised."""
    found = fit(store, [0.1, 1e30], clip_norm=None)
    assert [saved.head.diverged for saved in found.heads] == [False, True]
    assert found.best.name == found.heads[0].name
    assert any("with --lr 0.1 it did not" in note for note in found.notes)
    assert dataclasses.asdict(found.best.head.config)["hidden"] == "8"
