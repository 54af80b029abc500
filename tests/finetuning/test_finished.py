"""A training that is done is shown again, and not trained again."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import featcache
from featcache.cli.next_command import say_next_after_finetune
from featcache.errors import CacheError
from featcache.finetuning import job
from featcache.finetuning.training import Training
from featcache.report import finetune_parts


@pytest.fixture
def is_only_shown(monkeypatch):
    """A call that decodes an image or makes a step fails."""

    def refuse(*_, **__):
        raise AssertionError("this trains")

    def begin() -> None:
        monkeypatch.setattr(job, "load_images", refuse)
        monkeypatch.setattr(Training, "training_step", refuse)

    return begin


def _text(result: featcache.Finetuned) -> list[str]:
    console = Console(width=120, record=True, file=io.StringIO())
    for part in finetune_parts(result):
        console.print(part)
    return console.export_text().splitlines()


def _files(cache: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(cache).rglob("*") if path.is_file()}


@pytest.fixture
def settings(other_cache):
    """Of a training in a cache of its own."""
    return {"unfreeze": 1, "lr": 1e-2, "epochs": 2, "patience": 2, "cache": other_cache}


def test_a_training_that_is_done_is_shown_again(finetune, settings, is_only_shown):
    """The same call decodes nothing, trains nothing and writes nothing; it prints the same table below one line."""
    first = finetune(**settings)
    before = _files(settings["cache"])
    is_only_shown()
    again = finetune(**settings)

    assert (first.was_finished, again.was_finished) == (False, True)
    assert again.to_json() == {**first.to_json(), "was_finished": True, "images_per_second": 0.0}
    line, *rest = _text(again)
    assert line == "this training is done already, and nothing was trained; --restart trains it again"
    assert rest[2:] == _text(first)[2:]
    assert _files(settings["cache"]) == before


def test_embeddings_of_another_precision_have_a_head_of_their_own(finetune, settings):
    """Where they are asked for, what is done in one precision is not shown beside those of another."""
    first = finetune(**settings, precision="fp32")
    other = finetune(**settings, precision="bf16")
    assert (other.was_finished, other.compute) == (False, "bfloat16")
    assert other.fit.heads[0].folder != first.fit.heads[0].folder


def test_another_setting_trains_anew(finetune, settings):
    """A training of other settings is another one, and the first is still done afterwards."""
    first = finetune(**settings)
    other = finetune(**{**settings, "lr": 2e-2})
    assert not other.was_finished
    assert other.fit.heads[0].name != first.fit.heads[0].name
    assert finetune(**settings).was_finished


def test_a_name_is_given_without_training(finetune, settings, is_only_shown):
    """A new name is recorded for the head that is there."""
    name = finetune(**settings).fit.heads[0].name
    is_only_shown()
    fit = finetune(**settings, head_name="tuned").fit
    assert fit.handles.given == {"tuned": name}


def test_restart_trains_again(finetune, settings):
    """With restart a training that is done begins again, and on one machine ends with the same weights."""
    first = finetune(**settings)
    again = finetune(**settings, restart=True)
    assert (again.was_finished, again.resumed_from) == (False, None)
    assert again.weights == first.weights


@pytest.mark.parametrize("gone", ["finetuned/*.safetensors", "stores/*/heads/*/*/*/head.json"])
def test_what_is_not_whole_is_trained_again(gone, finetune, settings):
    """Where the trunk's weights or the head are gone, the training is not done."""
    first = finetune(**settings)
    (path,) = Path(settings["cache"]).glob(gone)
    path.unlink()
    again = finetune(**settings)
    assert not again.was_finished
    assert (again.weights, again.fit.heads[0].name) == (first.weights, first.fit.heads[0].name)


def test_a_damaged_result_is_named(finetune, settings):
    """A damaged document is an error that names it and the way out."""
    finetune(**settings)
    (path,) = Path(settings["cache"]).glob("finetuned/finished/*.json")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CacheError, match=f"{path.name}: damaged.*remove it, and the network is trained again"):
        finetune(**settings)


def test_the_best_head_to_start_from_is_one_on_a_frozen_trunk(trained_head, finetune):
    """`--from head best` means the same head when it is typed again, even where the tuned head is better by then."""
    settings = {"start": "head best", "lr": 1e-3, "epochs": 1, "unfreeze": 0}
    first = finetune(**settings)
    assert first.start == f"head {trained_head.best.name}"
    assert finetune(**settings).was_finished


def test_without_a_trunk_typed_it_is_the_frozen_one(trained_head, places):
    """Where the cache holds the tuned trunk's embeddings too, the same command means the frozen one again."""
    settings = {"unfreeze": 0, "lr": 1e-3, "epochs": 1, "batch_size": 8, "workers": 1, "device": "cpu", **places}
    assert not featcache.finetune(**settings).was_finished
    assert featcache.finetune(**settings).was_finished


def test_the_history_is_that_of_the_training(finetune, settings):
    """The epochs' scores are as the training had them; the row below them has those of the embeddings that are kept."""
    rows = []
    result = finetune(**settings, precision="bf16", logger=None)
    head = result.fit.heads[0].head
    rows = _text(result)
    assert result.compute == "bfloat16"
    assert f"{head.val.loss:.4f}" in next(row for row in rows if row.startswith("kept "))
    assert head.val.loss != head.history[head.best_epoch - 1].val.loss
    assert rows[-1].startswith("kept: on the embeddings that are kept (bfloat16)") or "kept: on" in "".join(rows)


def test_the_next_command_is_the_report_against_the_best_frozen_head(trained_head, finetune, places, capsys):
    """A training that starts from no head is held against the best head on a trunk that was not trained with it."""
    result = finetune(unfreeze=0, lr=1e-3, epochs=1, batch_size=7)
    number, frozen = result.fit.handles.numbers[result.fit.heads[0].name], trained_head.handles.numbers
    say_next_after_finetune({"data": places["data"], "cache": places["cache"]}, result)
    assert f"featcache report {number} --against {frozen[trained_head.best.name]} " in capsys.readouterr().out
