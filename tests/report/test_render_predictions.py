"""Predictions as tables and pictures: whole, legible, and inert."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from featcache.prediction import Predictions, Timeline
from featcache.report.pictures.sheet import MOST, _draw_sheet, save_sheet
from featcache.report.pictures.strip import _ticks, save_strip
from featcache.report.pictures.style import picture_style
from featcache.report.render_predictions import (
    print_predictions,
    print_timeline,
    save_predictions_csv,
    save_timeline_csv,
)
from featcache.text import clock

HOSTILE = (
    "=cmd|' /C calc'!A0",
    "<script>",
    "two\nlines",
    "\u202egnp.exe",
    "x" * 300,
    "looking_or_moving_around (e.g.)",
)


def some(rows: int = 3, classes=HOSTILE, paths=None, failed=None) -> Predictions:
    shares = np.random.default_rng(0).dirichlet(np.ones(len(classes)), rows)
    failed = failed or ("",) * rows
    for row, reason in enumerate(failed):
        if reason:
            shares[row] = np.nan
    return Predictions(
        head="lr0.01-abc", trunk="vit_nano_16, weights random, float32", classes=tuple(classes),
        paths=tuple(paths or (f"{row}.png" for row in range(rows))), probabilities=shares, failed=tuple(failed),
        embedded=rows, seconds=0.1, notes=("the weights are random",),
    )  # fmt: skip


def a_timeline() -> Timeline:
    shares = np.random.default_rng(0).dirichlet(np.ones(len(HOSTILE)) / 4, 40)
    return Timeline(
        path="run.mp4", head="lr0.01-abc", trunk="t", classes=HOSTILE, frames=np.arange(40) * 8, at=np.arange(40) / 2,
        probabilities=shares, failed="damaged at or behind frame 320", embedded=40, seconds=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("width", [60, 100])
def test_the_table_fits_and_hides_nothing(width):
    """In 60 and in 100 columns every label and path is there to its last letter; controls are escapes."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None)
    print_predictions(
        some(paths=("a" * 90 + "END", "b\x1b[31m.png", "c.png"), failed=("", "", "the file is empty")), console
    )
    print_timeline(a_timeline(), console)
    text = out.getvalue()
    assert max(map(len, text.split("\n"))) <= width
    assert "\x1b" not in text
    assert "\u202e" not in text
    joined = "".join(line[: width // 3] for line in text.split("\n")).replace(" ", "")
    assert "aEND" in joined
    assert "no prediction" in text


def test_csv_has_a_row_an_image_and_no_formula(tmp_path):
    """As many labels as asked for with their probabilities, an empty row with its reason, hostile names disarmed."""
    found = some(paths=("=1+1.png", "two\nlines.png", "c.png"), failed=("", "", "the file is empty"))
    save_predictions_csv(found, tmp_path / "a.csv", count=2)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    rows = list(csv.DictReader(lines))
    assert len(lines) == 4
    assert list(rows[0]) == ["path", "label_1", "probability_1", "label_2", "probability_2", "failed"]
    assert (rows[0]["path"], rows[1]["path"]) == ("'=1+1.png", "two\\nlines.png")
    assert (rows[2]["label_1"], rows[2]["failed"]) == ("", "the file is empty")
    best = found.probabilities[0].argsort()[::-1][:2]
    assert [float(rows[0][f"probability_{place}"]) for place in (1, 2)] == found.probabilities[0][best].tolist()
    cells = {cell for row in rows for name, cell in row.items() if name.startswith("label")}
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_the_timelines_csv_has_a_row_a_stretch(tmp_path):
    """Seconds, frames, label, probability; inert as the other."""
    found = a_timeline()
    save_timeline_csv(found, tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == len(found.segments())
    assert (rows[0]["start_seconds"], rows[0]["first_frame"]) == ("0.000", "0")
    assert {row["label"] for row in rows} <= {"'" + HOSTILE[0], "two\\nlines", "\\u202egnp.exe", *HOSTILE}


def test_a_sheet_holds_every_image_up_to_its_limit(tmp_path):
    """Real pictures, one gone, one with a reason, 300 letters in a label: nothing sticks out of the picture."""
    paths = []
    for number in range(MOST + 3):
        paths.append(str(tmp_path / f"{number}.png"))
        if number != 1:
            Image.fromarray(np.full((20 + number, 40, 3), 4 * number % 255, np.uint8)).save(paths[-1])
    found = some(len(paths), paths=paths, failed=("", "", "damaged or cut off: image file is truncated") + ("",) * MOST)
    assert save_sheet(found, tmp_path / "sheet.png") == MOST
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    edges = np.concatenate([pixels[:, :8].ravel(), pixels[:, -8:].ravel(), pixels[:8].ravel(), pixels[-8:].ravel()])
    assert (edges == 255).all()  # nothing is cut at the border
    assert pixels.std() > 5


def test_a_sheet_of_many_wide_images_fits_a_slide(tmp_path):
    """60 frames under long names: about as wide as a slide, no band above or below a picture, no name cut."""
    paths = [str(tmp_path / f"{number:02d}.png") for number in range(MOST)]
    for path in paths:
        Image.new("RGB", (96, 54), (200, 30, 30)).save(path)
    names = tuple(f"looking_or_moving_around_{number} (e.g. searching)" for number in range(34))
    with picture_style():
        found = _draw_sheet(some(MOST, classes=names, paths=paths))
    wide, high = found.get_size_inches()
    assert 1.2 < wide / high < 1.9
    image = found.axes[0].get_position()
    assert (image.width * wide) / (image.height * high) == pytest.approx(96 / 54)
    assert not any("…" in text.get_text() for text in found.texts)


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (0.0, 41.0, "0:00 0:05 0:10 0:15 0:20 0:25 0:30 0:35 0:40"),
        (0.5, 1.3, "0:00.5 0:00.6 0:00.7 0:00.8 0:00.9 0:01.0 0:01.1 0:01.2 0:01.3"),
        (0.0, 1800.0, "0:00 5:00 10:00 15:00 20:00 25:00 30:00"),
        (0.0, 36_000.0, "0:00 120:00 240:00 360:00 480:00 600:00"),
    ],
)
def test_the_ticks_of_a_strip_are_round(first, last, said):
    """Seconds, minutes, hours: at most nine ticks at numbers that a person would choose."""
    assert " ".join(_ticks(first, last)[1]) == said


def test_a_strip_holds_every_label_that_occurs(tmp_path):
    """A lane each, with its whole name beside it; nothing is cut at the border."""
    save_strip(a_timeline(), tmp_path / "strip.png")
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB")).astype(int)
    assert (pixels[:, :8] == 255).all()
    assert (pixels[:, -8:] == 255).all()
    blue = (pixels == (0x2F, 0x6F, 0xAD)).all(axis=2)
    lanes = blue[:, pixels.shape[1] // 3 :].any(axis=1)
    assert np.count_nonzero(np.diff(lanes.astype(int)) == 1) >= len({one.label for one in a_timeline().segments()})


def test_times_are_minutes_and_seconds():
    """To a tenth, and never 60 seconds."""
    assert [clock(at) for at in (0, 9.96, 59.97, 61.25, 3599.9)] == ["0:00.0", "0:10.0", "1:00.0", "1:01.2", "59:59.9"]


def test_a_label_stands_beside_its_threshold():
    """Why a probable label is not predicted, and an improbable one is, can be read in its row."""
    found = replace(some(1, ("red", "round")), targets="labels", thresholds=(0.125, 0.75))
    found.probabilities[0] = (0.25, 0.5)
    out = io.StringIO()
    print_predictions(found, Console(file=out, width=120, color_system=None))
    assert "probabilities (threshold)" in out.getvalue()
    assert re.search(r"0\.png +red +round 50\.0 % \(75\.0 %\), red 25\.0 % \(12\.5 %\)", out.getvalue())
