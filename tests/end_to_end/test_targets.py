"""Several labels a row, and numbers, from the table to a prediction: every command that knows them, as it is typed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache import UsageError
from tests import independent
from tests.conftest import Nano
from tests.end_to_end.conftest import Run

TRUNK = "vit_nano_16"
QUIET = featcache.Settings(device="cpu", workers=1)


def write_data(root: Path, nano: Nano, **data: object) -> Path:
    """Pictures that are dark or light, plain or striped, with a table of what they are; return the recipe."""
    root.mkdir()
    random, rows = np.random.default_rng(0), [("path", "split", "label", "light", "subject")]
    for number in range(60):
        light, striped = random.uniform(40, 200), number % 3 == 0
        pixels = np.full((32, 32, 3), light) + random.normal(0, 5, (32, 32, 3))
        pixels[:: 4 if striped else 32] += 50
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / f"{number}.png")
        labels = "|".join(name for name, has in (("bright", light > 120), ("striped", striped)) if has)
        split = ("train", "train", "val", "test")[number % 4]
        rows.append((f"{number}.png", split, labels, f"{light / 255:.4f}", f"p{number}"))
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    keys = {"layout": "table", "root": str(root), "table": "table.csv", **data}
    text = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    trunk = [f'arch = "{TRUNK}"', f"weights = {json.dumps(str(nano.weights))}", 'precision = "fp32"']
    recipe = root / "recipe.toml"
    recipe.write_text("\n".join(['name = "pictures"', "[data]", *text, "[trunk]", *trunk, ""]))
    return recipe


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory, nano: Nano) -> dict[str, str]:
    """The options of a data set with several labels, whose splits are in the cache."""
    root = tmp_path_factory.mktemp("targets")
    options = {"pipeline": str(write_data(root / "labels", nano, targets="labels")), "cache": str(root / "cache")}
    featcache.extract(settings=QUIET, **options)
    return options


def test_labels_from_the_table_to_a_prediction(where):
    """What is trained is what the report, the comparison and a prediction are of, with its thresholds."""
    fit = featcache.fit_head([0.01, 0.1], epochs=20, batch_size=16, device="cpu", **where)
    assert fit.selected_by == "mean average precision on val"
    document = fit.to_json()
    assert set(document["heads"][0]["val"]["metrics"]) == {"mean_average_precision", "macro_f1", "micro_f1"}
    assert document["check"] is None
    name, root = fit.best.name, Path(where["pipeline"]).parent
    evaluation = featcache.evaluate_targets(name, **where)
    assert (evaluation.names, evaluation.rows, evaluation.split) == (("bright", "striped"), 15, "test")
    assert evaluation.metrics["mean_average_precision"] > 0.8
    assert evaluation.intervals.unit == "subject"
    on_val = featcache.evaluate_targets(name, split="val", **where)
    assert on_val.metrics == pytest.approx(dict(fit.best.val.metrics))
    table = featcache.compare(split="test", **where)
    (head,) = [head for head in table.heads if head.name == name]
    assert head.figure("macro_f1") == pytest.approx(evaluation.metrics["macro_f1"])
    images = [str(root / path) for path in evaluation.predictions.paths]
    predicted = featcache.predict(name, images, device="cpu", workers=1, **where)
    assert np.allclose(predicted.probabilities, evaluation.predictions.answers, atol=1e-5)
    has = evaluation.predictions.predicted[0] > 0
    assert predicted.labels(0) == [name for name, there in zip(evaluation.names, has, strict=True) if there]
    assert predicted.to_json()["thresholds"] == list(fit.best.head.targets.thresholds)


def test_numbers_from_the_table_to_a_prediction(tmp_path, nano):
    """In the unit of the table, by a linear head and by an MLP beside it."""
    recipe = write_data(tmp_path / "numbers", nano, targets="value", target_columns=["light"])
    where = {"pipeline": str(recipe), "cache": str(tmp_path / "cache")}
    featcache.extract(settings=QUIET, **where)
    featcache.fit_head(0.1, epochs=40, batch_size=16, standardize=True, device="cpu", **where)
    featcache.fit_head(
        0.01, head="mlp", hidden="16", optimizer="adam", loss="huber", epochs=40, batch_size=16, device="cpu", **where
    )
    table = featcache.compare(**where)
    assert (table.metrics, len(table.heads)) == (("r2", "mae", "rmse", "spearman"), 2)
    evaluation = featcache.evaluate_targets(**where)
    assert evaluation.metrics["r2"] > 0.5
    predicted = featcache.predict("best", [str(tmp_path / "numbers/3.png")], device="cpu", workers=1, **where)
    assert predicted.probabilities[0, 0] == pytest.approx(evaluation.predictions.answers[0, 0], abs=1e-4)
    assert featcache.load("train", **where).targets.values.shape == (30, 1)


def test_another_reader_of_the_format_finds_them(where):
    """What docs/format.md says of a listing with targets is what is on disk."""
    cache, features = Path(where["cache"]), featcache.load("train", **where)
    log = independent.read_log(cache / "stores" / features.source["store"] / "commits.jsonl")
    listing = independent.read_listing(cache, log.listings["pictures", "all-labels", "train"])
    assert listing["values"] == features.targets.values.tolist()
    assert (tuple(listing["classes"]), listing["targets"]) == (features.classes, "labels")


def test_a_report_prints_and_writes_them(where, tmp_path, run: Run):
    """Figures, each label, a page and tables; nothing of classes in any of them. Data and export know labels too."""
    flags = ["--pipeline", where["pipeline"], "--cache", where["cache"]]
    featcache.fit_head(0.1, epochs=20, batch_size=16, device="cpu", **where)
    files = ["--html", tmp_path / "r.html", "--csv", tmp_path / "r.csv", "--predictions", tmp_path / "p.csv"]
    report = run("report", *flags, *files)
    assert report.code == 0, report.err
    for word in ("mean average precision over 2 of 2 labels", "macro F1", "striped", "threshold", "15 subjects"):
        assert word in report.out
    assert "Furthest from the truth" in (tmp_path / "r.html").read_text()
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert float(rows[0]["probability: bright"]) > 0
    contents = featcache.describe(**where).splits["train"]
    assert (contents.targets, list(contents.classes)) == ("labels", ["bright", "striped"])
    featcache.export("test", tmp_path / "x.npz", **where)
    with np.load(tmp_path / "x.npz") as arrays:
        assert (arrays["targets"].shape, "labels" in arrays) == ((15, 2), False)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (featcache.fit, {"classifier": "logreg"}, "fit is for rows with one class each"),
        (featcache.evaluate, {}, "is for rows with one class each"),
        (featcache.cross_validate, {}, "--cross-validate is for rows with one class each"),
        (featcache.stream, {"split": "train"}, "reading rows from disk is for rows with one class each"),
        (featcache.fit_head, {"loss": "huber"}, "--loss: found huber, expected binary_cross_entropy"),
        (featcache.fit_head, {"select": "accuracy"}, "--select: found accuracy, expected mean_average_precision"),
        (featcache.fit_head, {"sampler": "balanced"}, "--sampler balanced: it is about one class a row"),
        (featcache.fit_head, {"label_smoothing": 0.1}, "--label-smoothing 0.1: it is about one class a row"),
        (featcache.fit_head, {"huber_delta": 2.0}, "--huber-delta has no effect with the loss binary_cross_entropy"),
        (featcache.fit_head, {"check_seconds": 3.0}, "--check-seconds has no effect on several labels a row"),
        (featcache.fit_head, {"from_disk": True}, "--from-disk: rows with several labels a row are held in memory"),
        (featcache.compare, {"sort": "accuracy"}, "--sort: found 'accuracy', expected mean_average_precision"),
    ],
)
def test_what_is_of_classes_alone_is_refused_in_one_sentence(where, call, options, message):
    """No setting and no command is taken and left unused."""
    with pytest.raises(UsageError) as caught:
        call(**options, **where)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_a_report_of_classes_are_refused(where, run: Run):
    """Each in one sentence, with exit code 2."""
    for words in (["--conformal", 0.9], ["--png", "a.png"]):
        ran = run("report", "--pipeline", where["pipeline"], "--cache", where["cache"], *words)
        assert (ran.code, words[0] in ran.err) == (2, True)
