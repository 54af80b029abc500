"""What is given and would have no effect is refused, or said in a note; never taken in silence."""

import numpy as np
import pytest
from typer.testing import CliRunner

import featcache
import featcache.cli
from featcache.cli.app import app
from featcache.errors import DataError, UsageError
from featcache.extraction.timing import TimeBreakdown
from featcache.heads.notes import notes_of_heads
from featcache.heads.saved.linear import SavedHead
from featcache.listing import sheet
from featcache.recipe import check_recipe
from tests.builders import fit_head, record_clusters, scored_head

WHERE = {"data": "/data/toy"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fit-head --epochs 3 --epochs 4", "--epochs was given 2 times"),
        ("fit-head --name=", "--name is empty: give it a value, or leave it out"),
        ("report --split=", "--split is empty: give it a value, or leave it out"),
        ("fit-head --standardize --no-standardize", "--standardize was given 2 times"),
        ("report -p a --pipeline b", "--pipeline was given 2 times"),
        ("fit-head --no-check --check-seconds 3", "--check-seconds has no effect with --no-check"),
        ("search --no-check --check-seconds 3", "--check-seconds has no effect with --no-check"),
        ("search --finetune --no-check --head mlp", "--head and --no-check have no effect with --finetune"),
        ("search --from scratch --workers 2", "--from and --workers have no effect without --finetune"),
        ("fit-head --optimizer adam --momentum 0.5", "--momentum has no effect with adam"),
        ("fit-head --plateau-epochs 3", "--plateau-epochs has no effect with --schedule cosine"),
        ("search --optimizer adamw --trials 2 --trials 3", "--trials was given 2 times"),
        ("verify --sample 3 --batch-size 2", "--sample and --batch-size have no effect without --deep"),
        ("verify --quick --weights random", "--weights has no effect without --deep"),
        ("data --store x", "--store has no effect without --near"),
        ("fit-head --learning-rate 0.1 --epochs 3 --n-epochs=4", "--epochs was given 2 times"),
        ("data --folder elsewhere", "--data was given 2 times"),
        ("data elsewhere", "the data set was given twice, as elsewhere and as --data"),
        ("extract --fold 1 --folds 0,1", "--fold and --folds were both given"),
        ("fit-head --folds 0,x", "--folds: found '0,x', expected numbers separated by commas"),
        ("report --fold 1 --folds 0,1", "--fold and --folds were both given"),
        ("extract --seed 3", "--seed has no effect without --limit or --fraction"),
        ("fit logreg --device cuda", "--device cuda has no effect: logreg is fitted by the CPU"),
        ("fit knn --jobs 2", "--jobs has no effect"),
        ("predict best a.jpg --per-second 3", "--per-second has no effect on images"),
        ("predict best a.mp4 --top 3 --workers 2", "--top and --workers have no effect on a video"),
    ],
)
def test_an_option_without_effect_is_refused(words, said, tmp_path):
    """Exit 2 and which option it is, before anything is read."""
    ran = CliRunner().invoke(app, [*words.split(), *([] if "verify" in words else ["--data", str(tmp_path)])])
    assert (ran.exit_code, said in ran.stderr) == (2, True), ran.stderr


def test_an_option_may_stand_once_and_several_where_several_are_meant():
    """--lr twice is two heads, a flag said twice is said; neither is refused as given twice."""
    for words in ("fit-head --lr 0.1 --lr 0.2 --no-check --no-check --data /nowhere", "compare --json --json"):
        assert "times" not in CliRunner().invoke(app, words.split()).stderr


def test_a_setting_of_the_recipe_that_does_not_matter_is_no_error(tmp_path, monkeypatch):
    """Momentum beside adam in a recipe, or at one point of a grid, trains; typed for adam alone it is refused."""
    monkeypatch.chdir(tmp_path)
    record_clusters(tmp_path / "cache", "train", "val")
    recipe = (
        'name = "toy"\n[data]\nroot = "/data/toy"\n[head]\noptimizer = "adam"\nmomentum = 0.8\nplateau_epochs = 3\n'
    )
    (tmp_path / "r.toml").write_text(recipe)
    options = {"pipeline": "r.toml", "epochs": 1, "check_seconds": None, "device": "cpu"}
    assert featcache.fit_head(**options).best is not None
    assert len(featcache.fit_head(**options, grid="optimizer=sgd,adam", momentum=0.7).heads) == 2
    with pytest.raises(UsageError, match="--momentum has no effect with adam"):
        featcache.fit_head(**options, momentum=0.7)
    with pytest.raises(UsageError, match=r"lr is given in --grid and by a flag"):
        featcache.fit_head(0.1, **options, grid="lr=0.1,0.2")


def test_what_chooses_nothing_and_what_rises_within_a_step_is_said(tmp_path):
    """--select with one head, a warm-up of less than a step, the check of rows on disk: each is a note."""
    record_clusters(tmp_path, "train", "val")
    notes = fit_head(tmp_path, 0.1, select="loss", warmup=0.1).notes
    assert any("--select loss has no effect" in note for note in notes)
    assert any("warmup 0.1 is less than one step" in note for note in notes)
    assert not any("nothing to choose" in note for note in fit_head(tmp_path, [0.1, 0.2], select="loss").notes)
    notes = fit_head(tmp_path, 0.1, from_disk=True, check_seconds=5).notes
    assert any("left out with --from-disk" in note for note in notes)


def test_a_rule_for_clips_is_refused_where_there_are_none(tmp_path):
    """--clip-rule changes a figure, or is an error; without it nothing is said."""
    record_clusters(tmp_path, "train", "val")
    fit_head(tmp_path)
    with pytest.raises(UsageError, match=r"--clip-rule majority has no effect here: no image of split 'val'"):
        featcache.evaluate(**WHERE, cache=tmp_path, clip_rule="majority")
    assert featcache.evaluate(**WHERE, cache=tmp_path).rows


def test_a_head_named_by_its_folder_says_which_flags_are_unused(tmp_path):
    """Its folder says which store it belongs to: --store beside it has no effect, and a note says so."""
    from featcache.prediction.model import open_head

    record_clusters(tmp_path, "train", "val")
    folder = str(fit_head(tmp_path).best.folder)
    assert open_head(folder).notes == ()
    assert "--data and --store has no effect" in open_head(folder, data="x", store="y").notes[0]


@pytest.mark.parametrize("depth", ["deep", "Quick", "all"])
def test_a_depth_that_there_is_not_is_refused(depth):
    """Verify looks at sizes or at hashes; another word would be taken for the second."""
    with pytest.raises(UsageError, match=f"depth: found '{depth}', expected 'quick' or 'hashes'"):
        featcache.verify(depth=depth)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"batch_size": 0}, {"workers": -1}, {"device": "gpu"}])
def test_no_worker_is_no_default(wrong):
    """0 is not "as many as there are cores"."""
    with pytest.raises(UsageError, match=r"expected"):
        featcache.predict("x", "a.jpg", **wrong)


def test_a_count_is_refused_where_no_label_is_counted(tmp_path):
    """Of a picture there is no table of labels."""
    found = featcache.Predictions("h", "t", ("a",), ("x",), np.ones((1, 1)), ("",), 0, 0.0)
    with pytest.raises(UsageError, match="count has no effect"):
        featcache.save_predictions(found, tmp_path / "x.png", 3)
    featcache.save_predictions(found, tmp_path / "x.csv", 1)


@pytest.mark.parametrize(
    ("section", "key", "said"),
    [
        ((), "trunc", "did you mean trunk?"),
        ((), "lr", "it belongs to [head]"),
        (("head",), "weigth_decay", "did you mean weight_decay?"),
        (("head",), "learning_rate", "did you mean lr?"),
        (("head",), "arch", "it belongs to [trunk]"),
        (("trunk",), "wieghts", "did you mean weights?"),
        (("trunk",), "Precision", "did you mean precision?"),
        (("data",), "rot", "did you mean root?"),
        (("data",), "batch_size", "it belongs to [head]"),
        (("data", "split"), "bye", "did you mean by?"),
        (("data", "split"), "zzz", "expected val, test, by, seed"),
        (("fit",), "logregg", "did you mean logreg?"),
    ],
)
def test_an_unknown_key_of_a_recipe_is_refused_with_the_nearest(section, key, said):
    """In every section: the nearest key, the section that has it, or all keys."""
    document = {
        "name": "x",
        "data": {"root": "r", "split": {"val": 0.1, "by": "image"}},
        "trunk": {},
        "head": {},
        "fit": {},
    }
    place = document
    for name in section:
        place = place[name]
    place[key] = {} if section == ("fit",) else 1
    with pytest.raises(UsageError) as refused:
        check_recipe(document, where="r.toml")
    assert said in str(refused.value)


def test_an_unknown_setting_of_a_classifier_is_refused_with_the_nearest(tmp_path):
    """Of our own and of scikit-learn's."""
    record_clusters(tmp_path, "train", "val")
    for kind, setting, meant in (("knn", "temprature", "temperature"), ("ridge", "alfa", "alpha"),
                                 ("logreg", "max_iters", "max_iter")):  # fmt: skip
        with pytest.raises(UsageError, match=rf"{kind}: no setting '{setting}'; did you mean {meant}\?"):
            featcache.fit(kind, {setting: 1}, **WHERE, cache=tmp_path)


@pytest.mark.parametrize("column", ["Split", "splits", " SPLIT ", "clips", "Subject ID", "subjects"])
def test_a_column_that_is_nearly_a_known_one_is_refused(tmp_path, column):
    """It would be left out in silence, and people or splits with it; a column of another name is none of ours."""
    path = tmp_path / "t.csv"
    path.write_text(f"path,label,{column},weather\n")
    found = sheet.read_sheet(str(path), ["path", "label"], ["split", "clip", "subject"])
    assert [f"column {column!r} would be left out" in problem for problem in found.problems] == [True]
    assert not sheet.read_sheet(str(path), ["path", "label", column], ["split", "clip", "subject"]).problems
    with pytest.raises(DataError, match=r"no column 'Label'; .* did you mean 'label'\?"):
        sheet.refuse_problems("t.csv", sheet.read_sheet(str(path), ["Label"], []).problems)


def test_advice_is_not_what_is_done_already():
    """bf16 is not advised where it runs, nor more workers than images, nor --decode on videos."""
    account = TimeBreakdown(2, 2, "CPU")
    account.spent["computing"] = 9.0
    assert "--precision bf16" in account.describe()
    assert "bf16" not in TimeBreakdown(2, 2, "CPU", compute="bfloat16", spent={**account.spent}).describe()
    waiting = {**account.spent, "computing": 0.0, "waiting": 9.0}
    assert "--workers 4 where" in TimeBreakdown(2, 2, spent=waiting, reading=5.0).describe()
    assert "--workers 3 where" in TimeBreakdown(2, 2, spent=waiting, reading=5.0, images=3).describe()
    assert "--workers" not in TimeBreakdown(2, 2, spent=waiting, reading=5.0, images=2).describe()
    assert "--decode" in TimeBreakdown(2, 2, spent=waiting, decoding=5.0).describe()
    assert "--decode" not in TimeBreakdown(2, 2, spent=waiting, decoding=5.0, videos=True).describe()


def test_a_lower_rate_is_advised_only_where_none_was_trained(tmp_path):
    """Where one of the same run is low enough, that is said instead."""
    record_clusters(tmp_path, "train", "val")
    train = featcache.load("train", **WHERE, cache=tmp_path)
    sound, diverged = scored_head(0.5, 0.5), scored_head(2.0, 0.1, diverged=True)
    heads = [SavedHead(str(h.config.lr), tmp_path, h, train.classes, {}) for h in (sound, diverged)]
    (note,) = [note for note in notes_of_heads(train, train, heads) if "diverged" in note]
    assert note.endswith("with --lr 0.5 it did not")
    (note,) = [note for note in notes_of_heads(train, train, heads[1:]) if "diverged" in note]
    assert note.endswith("lower --lr")
