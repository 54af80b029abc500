"""Several labels a row, and numbers, from the table to a prediction: every command that knows them, as it is typed."""

import csv
import html
import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import featcache
from featcache import UsageError
from featcache.heads import take_rows
from featcache.heads.saved import read_temperature
from featcache.heads.training import train_heads
from featcache.prediction.head_module import make_head_module
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
    assert predicted.to_json()["thresholds"] == pytest.approx(evaluation.predictions.thresholds.tolist())
    assert predicted.temperature == fit.temperatures[name]


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
        (featcache.fit, {"classifier": "ridge"}, "fit ridge: several labels a row are learnt by knn and logreg"),
        (featcache.evaluate, {}, "targets = 'labels'; evaluate_targets() is for these"),
        (featcache.cross_validate, {}, "cross_validate() is for rows with one class each"),
        (featcache.find_label_issues, {}, "find_label_issues() is for rows with one class each"),
        (featcache.search, {"trials": 1, "label_smoothing": 0.1}, "--label-smoothing 0.1: it is about one class a row"),
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
    for words in (["--clip-rule", "majority"], ["--png", "a.png"]):
        ran = run("report", "--pipeline", where["pipeline"], "--cache", where["cache"], *words)
        assert (ran.code, words[0] in ran.err) == (2, True)


@pytest.fixture(scope="module")
def two_heads(where):
    """The names of a linear head and of an MLP on the labels, the worse one first."""
    options = {"epochs": 20, "batch_size": 16, "device": "cpu", "head_name": None}
    linear = featcache.fit_head(1e-4, **{**options, "epochs": 1}, **where)
    mlp = featcache.fit_head(0.01, head="mlp", hidden="16", optimizer="adam", **options, **where)
    return linear, mlp


def test_two_heads_on_labels_are_compared_on_the_same_rows(where, two_heads, run: Run):
    """The difference is that of the two reports, with an interval; the words say which is better; JSON has both."""
    linear, mlp = (fit.best.name for fit in two_heads)
    pair = featcache.evaluate_target_pair(mlp, linear, **where)
    first, second = (featcache.evaluate_targets(name, **where) for name in (mlp, linear))
    for name, value in pair.metrics.items():
        assert value == pytest.approx(first.metrics[name] - second.metrics[name])
    flags = ["--pipeline", where["pipeline"], "--cache", where["cache"]]
    shown = run("report", mlp, *flags, "--against", linear)
    assert shown.code == 0, shown.err
    verdict = f"{pair.leads} is better by mean average precision" if pair.leads else "do not tell which is better"
    assert verdict in " ".join(shown.out.split())
    document = json.loads(run("report", mlp, *flags, "--against", linear, "--json").out)["against"]
    assert document["head"] == linear
    assert [output["name"] for output in document["difference"]["outputs"]] == ["bright", "striped"]
    refused = run("report", mlp, *flags, "--against", mlp)
    assert (refused.code, "and a head differs from itself by nothing" in refused.err) == (2, True)


def test_a_module_on_labels_is_held_against_the_best_linear_head(where, two_heads, run: Run):
    """fit-head says which of the two is ahead on val, and which command says how certain that is."""
    (note,) = [note for note in two_heads[1].notes if "a head of kind mlp" in note]
    assert "on val its mean average precision is" in note
    assert note.endswith(("this head is ahead on val", "the linear head is ahead on val", "they are equal on val"))
    flags = ["--pipeline", where["pipeline"], "--cache", where["cache"]]
    words = ["--head", "mlp", "--hidden", "16", "--lr", "0.01", "--epochs", "2"]
    last = run("fit-head", *flags, *words).out.splitlines()[-1]
    assert last.startswith("next: featcache report ")
    assert "--against" in last


def test_every_row_of_labels_is_predicted_by_a_head_that_has_not_seen_it(where, tmp_path, run: Run):
    """Its probabilities are those of a head that was trained on the other folds alone; one file has all rows."""
    settings = {"epochs": 5, "batch_size": 16, "device": "cpu"}
    result = featcache.cross_validate_targets(3, 0.1, **settings, **where)
    unseen = result.unseen
    assert (unseen.splits, unseen.by, len(unseen.fold)) == (("train", "val"), "subject", 45)
    held_out = unseen.fold == 1
    (head,) = train_heads(take_rows(unseen.rows, ~held_out), None, [unseen.configs[0]])
    assert np.array_equal(unseen.outputs[held_out], head.logits(unseen.rows.x[held_out]))
    assert result.evaluation.rows == 45
    assert any("F1 flatters" in note for note in result.evaluation.notes)
    flags = ["--pipeline", where["pipeline"], "--cache", where["cache"], "--lr", 0.1, "--epochs", 2]
    ran = run("fit-head", *flags, "--cross-validate", 3, "--predictions", tmp_path / "rows.csv")
    assert ran.code == 0, ran.err
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), {row["fold"] for row in rows}) == (45, {"0", "1", "2"})
    assert ran.out.splitlines()[-1].startswith("next: featcache data --label-issues ")


def test_a_temperature_changes_no_prediction_of_labels_and_is_what_the_export_has(where, tmp_path):
    """Val is no less likely with it; report and predict have one threshold; the file's sigmoid is the probability."""
    fit = featcache.fit_head(0.3, epochs=30, batch_size=16, device="cpu", seed=3, **where)
    kept = read_temperature(fit.best.folder)
    assert kept.loss <= kept.loss_before
    assert kept.value is None or kept.value == fit.temperatures[fit.best.name]
    evaluation = featcache.evaluate_targets(fit.best.name, **where)
    features = featcache.load("test", **where)
    plain = fit.best.predict_targets(features.x) >= np.array(fit.best.head.targets.thresholds)
    assert np.array_equal(evaluation.predictions.predicted > 0, plain)
    head = make_head_module(fit.best, kept.value)
    probabilities = torch.sigmoid(head.module(torch.from_numpy(features.x))).numpy()
    assert np.allclose(probabilities, evaluation.predictions.answers, atol=1e-5)


def test_conformal_sets_of_labels_and_intervals_of_numbers(where, tmp_path, nano, run: Run):
    """Calibrated on val by the definition; the report says coverage and width, by subject in JSON."""
    featcache.fit_head(0.1, epochs=20, batch_size=16, device="cpu", **where)
    sets = featcache.evaluate_targets(conformal=0.8, **where).sets
    val = featcache.evaluate_targets(split="val", **where).predictions
    for place in range(2):
        of_label = np.sort(val.answers[val.truth[:, place] > 0, place])[::-1]
        rank = math.ceil(round((len(of_label) + 1) * 0.8, 9))
        assert sets.limits[place] == (of_label[rank - 1] if rank <= len(of_label) else 0)
    flags = ["--pipeline", where["pipeline"], "--cache", where["cache"]]
    assert "conformal sets at 80 %" in run("report", *flags, "--conformal", 0.8).out
    table = tmp_path / "sets.parquet"
    assert run("report", *flags, "--conformal", 0.8, "--predictions", table).code == 0
    held = pyarrow.parquet.read_table(table).to_pydict()
    names = np.array(["bright", "striped"])
    assert held["set"] == [" | ".join(names[row]) or "none" for row in sets.members]
    assert held["probability: bright"] == sets.predictions.answers[:, 0].tolist()
    assert "shows nothing" in run("report", *flags, "--conformal", 0.8, "--split", "val").err
    recipe = write_data(tmp_path / "numbers", nano, targets="value", target_columns=["light"])
    numbers = {"pipeline": str(recipe), "cache": str(tmp_path / "cache")}
    featcache.extract(settings=QUIET, **numbers)
    featcache.fit_head(0.1, epochs=20, batch_size=16, device="cpu", **numbers)
    found = featcache.evaluate_targets(conformal=0.8, **numbers)
    residual = np.abs(found.predictions.truth - found.predictions.answers)
    assert found.sets.coverage(0) == np.mean(residual <= found.sets.limits[0])
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))["conformal"]
    assert document["outputs"][0]["width"] == 2 * document["outputs"][0]["limit"]
    assert len(document["subjects"]) == 15


def test_settings_of_heads_on_labels_are_searched(where):
    """What is about one class a row is not among them; the same call again adds nothing."""
    options = {"epochs": 2, "batch_size": 16, "device": "cpu"}
    found = featcache.search(3, **options, **where)
    assert (found.trials, found.fit.selected_by) == (3, "mean average precision on val")
    assert found.fit.best.head.config.targets == "labels"
    assert featcache.search(3, **options, **where).new == 0


class Squeeze(torch.nn.Module):
    """A head of one's own whose last layer nobody knows."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, outputs)."""
        return self.layer(x) * 0.5


def test_a_module_of_ones_own_learns_numbers_in_their_units(tmp_path, nano):
    """The table's unit comes back from the head, from its module and, read again, from the report."""
    recipe = write_data(tmp_path / "numbers", nano, targets="value", target_columns=["light"])
    where = {"pipeline": str(recipe), "cache": str(tmp_path / "cache")}
    featcache.extract(settings=QUIET, **where)
    best = featcache.fit_head(
        0.1, head=Squeeze, epochs=30, batch_size=16, standardize=True, device="cpu", **where
    ).best  # fmt: skip
    rows = featcache.load("val", **where)
    assert best.head.targets.mean
    assert best.val.metrics["r2"] > 0
    answers = best.head.logits(rows.x)
    with torch.inference_mode():
        assert np.allclose(best.head.module()(torch.from_numpy(rows.x)).numpy(), answers, atol=1e-4)
    evaluation = featcache.evaluate_targets(best.name, split="val", **where)
    assert np.allclose(evaluation.predictions.answers, answers, atol=1e-5)


def test_the_page_of_labels_shows_the_worst_rows(where, tmp_path, run: Run):
    """With a picture each, the rows with the most wrong labels first, and none that is right; the learning curves, and
    the commands that make the page again.
    """
    flags = ["--pipeline", where["pipeline"], "--cache", where["cache"]]
    featcache.fit_head(0.1, epochs=20, batch_size=16, device="cpu", **where)
    assert run("report", *flags, "--html", tmp_path / "r.html").code == 0
    page = (tmp_path / "r.html").read_text()
    wrong = [int(count) for count in re.findall(r'<td class="n">(\d) of 2</td>', page)]
    predictions = featcache.evaluate_targets(**where).predictions
    rows = (predictions.predicted != predictions.truth).any(axis=1).sum()
    assert len(wrong) == rows
    assert wrong == sorted(wrong, reverse=True)
    assert page.count("data:image/webp;base64,") == rows
    assert all(f'aria-label="{title} on val"' in page for title in ("Loss", "Macro F1", "Mean average precision"))
    commands = re.search(r'aria-label="Commands">(.*?)</pre>', page, re.DOTALL)[1].splitlines()
    assert [line.split()[1] for line in map(html.unescape, commands)] == ["extract", "fit-head", "report"]


def test_heads_on_another_label_column_are_left_out_with_a_sentence(tmp_path, nano, run: Run):
    """Compare shows those on the labels that there are now, and names the others."""
    recipe = write_data(tmp_path / "two", nano, targets="labels")
    where = {"pipeline": str(recipe), "cache": str(tmp_path / "cache")}
    featcache.extract(settings=QUIET, **where)
    old = featcache.fit_head(0.1, epochs=1, batch_size=16, device="cpu", **where).best.name
    recipe.write_text(recipe.read_text().replace('targets = "labels"', 'targets = "labels"\nlabel_column = "subject"'))
    featcache.extract(settings=QUIET, **where)
    new = featcache.fit_head(0.1, epochs=1, batch_size=16, device="cpu", **where).best.name
    table = featcache.compare(**where)
    assert [head.name for head in table.heads] == [new]
    assert any(
        "trained on labels of another column than pictures has now" in note and old in note for note in table.notes
    )
