"""The commands that a page prints make the head and its report again."""

import html
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import featcache
from featcache.dataset.request import DatasetRequest
from featcache.evaluation.evaluate_head import predict_on_split
from featcache.heads.classifiers import parse_settings, value_as_typed
from featcache.heads.config import HeadConfig
from featcache.recipe import HeadSection
from featcache.report.page.build import build_page
from featcache.report.page.commands import _quoted, classifier_words, head_flags
from tests.conftest import write_images

COUNTS = {"train": {"0": 12, "1": 10, "2": 6}, "val": {"0": 4, "1": 4, "2": 3}, "test": {"0": 5, "1": 4, "2": 3}}
RANDOM = {"arch": "vit_nano_16", "weights": "random", "precision": "fp32"}


@pytest.fixture
def odd(tmp_path, nano, monkeypatch) -> Path:
    """A working folder whose name a shell would take apart, with images, weights and a recipe."""
    home = tmp_path / "a b'c$(x)é"
    home.mkdir()
    write_images(home / "my pictures", COUNTS)
    (home / "net s.pth").write_bytes(nano.weights.read_bytes())
    os.utime(home / "net s.pth", ns=(10**18, 10**18))
    (home / "mine.toml").write_text(
        'name = "odd-1"\n[data]\nroot = "my pictures"\n[trunk]\narch = "vit_nano_16"\nexif = "apply"\n'
        "[head]\nepochs = 4\nbatch_size = 8\nstandardize = [false, true]\nclip_norm = 0.5\n",
        "utf-8",
    )
    (home / "pasted").mkdir()
    monkeypatch.chdir(home)
    return home


def paste(commands: tuple[str, ...], folder: Path) -> None:
    """Run the lines in a shell, in this folder, as a person pastes them."""
    script = f'set -e\nfeatcache() {{ {sys.executable} -m featcache "$@"; }}\n' + "\n".join(commands)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FEATCACHE_")}
    ran = subprocess.run(["bash", "-c", script], cwd=folder, env=kept, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def heads_in(cache: Path) -> dict[str, bytes]:
    """Every file of weights below a cache, by its head's name."""
    return {path.parent.name: path.read_bytes() for path in cache.rglob("head.safetensors")}


def test_the_recipe_of_a_page_is_that_of_its_head(tmp_path, nano):
    """Where flags and the default grid chose, the recipe on the page has what they chose, and no default beside it."""
    root = write_images(tmp_path / "pictures", COUNTS)
    where = {"data": str(root), "cache": tmp_path / "cache"}
    featcache.extract(**where, arch="vit_nano_16", weights=str(nano.weights), precision="fp32")
    fitted = featcache.fit_head([0.1, 0.3], weight_decay=0.01, epochs=3, check_seconds=None, **where)
    page = build_page(predict_on_split(DatasetRequest(**where)))
    recipe, config = json.loads(page.recipe), fitted.best.head.config
    assert (recipe["trunk"]["arch"], recipe["trunk"]["weights"]) == ("vit_nano_16", str(nano.weights))
    assert recipe["trunk"]["precision"] == "fp32"
    assert (recipe["head"]["lr"], recipe["head"]["weight_decay"], recipe["head"]["epochs"]) == ([config.lr], [0.01], 3)
    (head,) = (value for name, value in page.origin if name == "head")
    assert f"learning rate {config.lr:g}, " in head
    assert ("patience none" in head, "standardize no" in head) == (True, True)
    assert not re.search(r"\b(True|False|None)\b", head)


@pytest.mark.slow
def test_a_head_is_made_again_in_an_empty_folder(odd):
    """Recipe, part, seed, weights, stored and grid: the same heads to the byte, and a page of the same head."""
    where = {"pipeline": "mine.toml"}
    featcache.extract(**where, weights="net s.pth", precision="fp32", stored="float16", limit=20, seed=3)
    featcache.fit_head([0.1, 0.3], **where, grid="seed=0,1", epochs=3, schedule="plateau", plateau_epochs=2,
                       select="accuracy", device="cpu", check_seconds=None)  # fmt: skip
    found = predict_on_split(DatasetRequest(**where))
    commands = build_page(found).commands
    assert "--limit 20 --seed 3" in commands[0]
    paste(commands, odd / "pasted")
    assert heads_in(odd / "cache") == heads_in(odd / "pasted" / "cache")
    assert len(heads_in(odd / "cache")) == 8
    assert found.head.name in (odd / "pasted" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_a_classifier_is_made_again_in_an_empty_folder(odd):
    """With its predictions; and with splits that came one by one, val only after it was fitted."""
    where = {"data": "my pictures", "name": "other", "cache": "kept"}
    for split in ("train", "test"):
        featcache.extract(split, **where, **RANDOM)
    fitted = featcache.fit("logreg", {"solver": "saga", "C": 0.5, "max_iter": 20}, predict="test", **where).best
    featcache.extract("val", **where, **RANDOM)
    commands = build_page(predict_on_split(DatasetRequest(**where), fitted.name, split="val")).commands
    assert [line.split(" ")[1] for line in commands] == ["extract", "extract", "fit", "extract", "report"]
    paste(commands, odd / "pasted")
    (again,) = (odd / "pasted" / "kept").rglob("classifier.json")
    assert again.parent.name == fitted.name
    name = "predictions-test.safetensors"
    assert (again.parent / name).read_bytes() == (fitted.folder / name).read_bytes()


def test_a_page_names_no_home_folder(odd, monkeypatch):
    """Paths below it begin with a tilde, whatever a shell makes of the rest; the commands work when pasted."""
    monkeypatch.setenv("HOME", str(odd))
    where = {"data": str(odd / "my pictures"), "cache": str(odd / "kept")}
    featcache.extract(**where, **RANDOM)
    fitted = featcache.fit("ridge", **where).best
    featcache.save_report("page.html", fitted.name, **where)
    page = (odd / "page.html").read_text("utf-8")
    assert (odd.name in html.unescape(page), "~/my pictures" in page) == (False, True)
    commands = build_page(predict_on_split(DatasetRequest(**where), fitted.name)).commands
    assert all("--data ~/'my pictures' --cache ~/kept" in line for line in commands)
    paste(commands, odd / "pasted")


def test_every_combination_that_was_tried_is_typed(odd):
    """The words give the same choices in the same order, so that the classifier has the same name."""
    where = {"data": "my pictures"}
    featcache.extract(**where, **RANDOM)
    fitted = featcache.fit("knn", {"temperature": [0.1, 0.07], "k": [3, 1]}, **where).best
    again = featcache.fit(
        "knn", {key: list(values) for key, values in parse_settings(classifier_words(fitted)).items()}, **where
    )
    assert again.best.name == fitted.name


SIMPLE = st.one_of(
    st.none(), st.booleans(), st.integers(-99, 10**6), st.floats(allow_nan=False, allow_infinity=False),
    st.text("abTrue'\" ,()=019.e\\", max_size=8),
)  # fmt: skip


@given(st.one_of(SIMPLE, st.lists(SIMPLE, max_size=3).map(tuple)))
@example(",',\"")  # in quotes, and one of them escaped
@example("\\,'\"")
def test_a_value_is_typed_so_that_it_is_read_back(value):
    """Numbers, words that look like numbers, texts with commas and quotes, tuples: `parse_settings` gives the value."""
    (read,) = parse_settings([f"x={value_as_typed(value)}"])["x"]
    assert (read, type(read)) == (value, type(value))


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name) | st.text("aé 'b\\$\n", min_size=1))
def test_a_word_is_quoted_so_that_a_shell_gives_it_back(word):
    """Any name at all, also one that is not UTF-8; on the page it is one line of characters that show themselves."""
    word = word if isinstance(word, str) else os.fsdecode(word)
    quoted = _quoted(word)
    assert quoted.isprintable()
    ran = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert ran.stdout == os.fsencode(word)


def test_settings_are_typed_where_the_recipe_says_otherwise():
    """--grid where more than the learning rate varies; a setting that the recipe has is not typed, a default may be."""
    one, other = HeadConfig(lr=0.01, seed=1, standardize=True), HeadConfig(lr=0.01, seed=2, standardize=True)
    plain = HeadSection()
    assert head_flags([one], plain) == [("--lr", "0.01"), ("--standardize", ""), ("--seed", "1")]
    assert head_flags([one, other], plain) == [("--standardize", ""), ("--grid", "lr=0.01 seed=1,2")]
    both = [replace(one, standardize=on) for on in (False, True)]
    assert head_flags(both, plain) == [("--seed", "1"), ("--grid", "lr=0.01 standardize=false,true")]
    stated = HeadSection(standardize=(False, True), epochs=30, seed=(1,))
    flags = head_flags([replace(one, epochs=90)], stated)
    assert flags == [("--lr", "0.01"), ("--standardize", ""), ("--epochs", "90")]
    of_linear_heads = HeadSection(matmul_precision="bf16")
    assert head_flags([HeadConfig(head="mlp", lr=0.01)], of_linear_heads) == [("--lr", "0.01"), ("--head", "mlp")]
    assert head_flags([HeadConfig(lr=1e-7 / 3)], plain) == [("--lr", repr(1e-7 / 3))]
    assert ("--no-standardize", "") in head_flags([HeadConfig()], stated)
