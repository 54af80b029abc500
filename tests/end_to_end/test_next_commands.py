"""The line that an answer ends with: the command that comes next, which works when it is pasted."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Nano, Ran
from tests.end_to_end.test_first_commands import write_drives

pytestmark = pytest.mark.slow  # test_first_answers pastes the next command of each answer, too
Run = Callable[..., Ran]


def next_words(ran: Ran) -> list[str]:
    """Return the words behind `featcache` of the one command that an answer names as the next; its last line."""
    assert ran.code == 0, ran.err
    *_, last = ran.out.splitlines()
    assert re.findall(r"^next: ", ran.out, re.MULTILINE) == ["next: "]
    return shlex.split(last.removeprefix("next: featcache "))


def test_each_answer_leads_to_the_next(run: Run, folder: Path, extracted: Path) -> None:
    """From the data set to a prediction each command is the last answer's, and names the data set as it was typed."""
    commands = []
    words = ["data", str(folder)]
    for _ in range(5):
        words = next_words(
            run(*words, *(["--lr", "0.1", "--epochs", "2", "--no-check"] if "fit-head" in words else []))
        )
        assert str(folder) in words
        commands.append(words[0])
    exported = run(*words)
    assert (exported.code, "wrote model.pt" in exported.out) == (0, True), exported.err
    assert commands == ["fit-head", "report", "report", "predict", "export-model"]


@pytest.mark.parametrize(
    "typed",
    [
        ["fit", "ridge", "alpha=1"],
        ["fit", "sklearn.svm:SVC", "C=1", "--jobs", "1"],  # whose predictions on val are all that is kept
        ["search", "--trials", "1", "--epochs", "2", "--no-check"],
    ],
)
def test_what_was_trained_is_reported_next(run: Run, extracted: Path, typed: list[str]) -> None:
    """Fit and search end with the report of the very model that they kept."""
    words = next_words(run(*typed, "--data", extracted))
    assert words[:2] == ["report", "1"]
    assert next_words(run(*words))[0] == "report"


def test_a_comparison_leads_to_the_report_of_its_first_head(run: Run, extracted: Path) -> None:
    """On the split that was named."""
    assert run("fit", "knn", "k=1", "--data", extracted).code == 0
    words = next_words(run("compare", extracted, "--split", "val"))
    assert words[:4] == ["report", "1", "--split", "val"]
    assert "digits · val" in run(*words).out


def test_several_predictions_are_written_next(run: Run, extracted: Path) -> None:
    """The command is the one that was typed, with --csv; the answer to it leads to the export."""
    assert run("fit", "ridge", "alpha=1", "--data", extracted).code == 0
    words = next_words(run("predict", "best", extracted / "test" / "0", "--top", 2, "--data", extracted))
    written = run(*words)
    assert "wrote predictions.csv" in written.out
    assert next_words(written)[:4] == ["export-model", "1", "--to", "model.pt"]


def test_with_two_stores_the_next_command_names_one(run: Run, nano: Nano, extracted: Path) -> None:
    """fit-head after a second extract trains on what was extracted last, and its report reads the same store."""
    told = run("extract", extracted, "--arch", "vit_nano_16", "--weights", "random", "--precision", "fp32")
    words = next_words(told)
    assert words[words.index("--weights") + 1] == "random"
    report = next_words(run(*words, "--lr", "0.1", "--epochs", "2", "--no-check"))
    assert report[report.index("--weights") + 1] == "random"
    assert run(*report).code == 0


def test_with_two_trunks_each_advice_names_one(run: Run, nano: Nano, extracted: Path) -> None:
    """The fit-head after `data`, and the search for doubtful labels after a cross-validation."""
    assert run("extract", extracted, "--arch", "vit_nano_16", "--weights", "random", "--precision", "fp32").code == 0
    assert run("fit-head", extracted, "--lr", "0.1", "--epochs", "2").code == 3
    fit = next_words(run("data", extracted))
    assert run(*fit, "--lr", "0.1", "--epochs", "2", "--no-check").code == 0
    chosen = ["--arch", "vit_nano_16", "--weights", "random"]
    validated = run("fit-head", extracted, *chosen, "--cross-validate", "2", "--lr", "0.1", "--epochs", "2")
    words = next_words(validated)
    assert words[:2] == ["data", "--label-issues"]
    assert words[words.index("--weights") + 1] == "random"


def test_the_extract_of_another_division_has_the_trunk_of_the_cache(run: Run, nano: Nano, folder: Path) -> None:
    """With --weights, and with --arch where nobody typed it: without them it would download others."""
    root = folder / "train"
    assert run("extract", root, "--val", "0.2", *nano.flags).code == 0
    for typed in ([], ["--arch", "vit_nano_16"]):
        for words in (["report", "--data", root], ["fit-head", root]):
            told = run(*words, "--test", "0.3", *typed)
            assert told.code == 3
            (advised,) = re.findall(r"run `featcache (extract [^`]*)`", told.err)
            advice = shlex.split(advised)
            assert [advice.count(flag) for flag in ("--arch", "--weights", "--precision")] == [1, 1, 1], advised
            assert advice[advice.index("--weights") + 1] == str(nano.weights)
    assert "0 embedded" in run(*advice).out


def test_the_report_that_comes_next_is_of_the_head_just_trained(run: Run, extracted: Path) -> None:
    """By its number where another head is the best of the data set; a report of the best needs none."""
    flags = ["--data", extracted, "--no-check"]
    best = next_words(run("fit-head", *flags, "--lr", "0.1", "--epochs", "30"))
    assert not best[1].isdigit()
    worse = next_words(run("fit-head", *flags, "--lr", "1e-7", "--epochs", "1"))
    assert worse[:2] == ["report", "2"]
    assert "head #2 " in run(*worse).out


def test_folds_are_shown_as_they_end(run: Run, nano: Nano, tmp_path: Path) -> None:
    """A fold that fails leaves those before it on the screen, and is named; no next command is advised."""
    root = write_drives(tmp_path / "drives")
    assert run("extract", root, "--folds", "0", *nano.flags).code == 0
    told = run("fit-head", root, "--folds", "0,1", "--lr", "0.1", "--epochs", "2", "--no-check")
    assert told.code == 3
    assert told.out.startswith("fold 0\n")
    assert "head #1 lr0.1" in told.out
    assert "next: " not in told.out
    assert "error: fold 1: " in told.err


def test_an_average_over_different_settings_says_so(run: Run, nano: Nano, tmp_path: Path) -> None:
    """A number stands for another head on each fold; where their settings differ, the report names both."""
    root = write_drives(tmp_path / "drives")
    assert run("extract", root, "--folds", "0,1", *nano.flags).code == 0
    for fold, rate in ((0, "0.1"), (1, "0.3")):
        assert run("fit-head", root, "--fold", fold, "--lr", rate, "--epochs", "2", "--no-check").code == 0
    told = run("report", "1", "--data", root, "--folds", "0,1")
    note = "the folds' heads have different settings, so the average is not of one recipe: fold 0 has lr 0.1; fold 1"
    assert note in " ".join(told.out.split())
    assert next_words(told)[:4] == ["report", "1", "--folds", "0,1"]
