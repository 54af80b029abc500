"""The picture: nothing cut, nothing overlapping, nothing interpreted; a missing glyph is an error too."""

import itertools
import os
import struct
import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from featcache.errors import MachineError, UsageError
from featcache.evaluation.evaluation import Evaluation
from featcache.metrics.bootstrap import Interval, Intervals
from featcache.report.pictures import figure, style
from featcache.report.pictures.figure import save_evaluation_png

LONG = tuple(f"looking_or_moving_around_{i} (e.g. searching)" for i in range(34))
HOSTILE = (
    "$x^2$", "$", r"\alpha", r"$\frac{1}{$", "line\nbreak", "\x1b[31m", "\u202etxt", "caf\udce9", "漢字",
    "🐜", "سلام", "[bold]", "<script>", "%s {0}", "x" * 300, "_", " ",
)  # fmt: skip
SIZES = [("ants", "bees"), tuple("0123456789"), LONG, HOSTILE, ("only one",)]


def an_evaluation(classes, **fields):
    size = len(classes)
    confusion = np.arange(size * size).reshape(size, size) * 7 % 40 + 1900 * np.eye(size, dtype=np.int64)
    confusion[size // 2] = 0  # an absent class
    names = {"head": "lr0.003", "data_set": "hymenoptera", "split": "test"}
    found = Evaluation(classes=classes, confusion=confusion.astype(np.int64), **(names | fields))
    spans = tuple(None if np.isnan(p) else Interval(0.9 * p, (1 + 3 * p) / 4) for p in found.recall.tolist())
    return replace(found, intervals=Intervals("subject", 3, 10_000, 0.95, "m", None, None, spans))


def drawn(evaluation):
    """The figure, rendered once so that everything has its place."""
    with style.picture_style():
        found = figure._draw(evaluation)
        found.canvas.draw()
    return found


def texts(axes):
    """What is written on the axes: labels and cells that are not empty."""
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    return [text for text in (*axes.texts, *labels) if text.get_text().strip()]


def size_of(path):
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


@pytest.fixture(scope="module", params=SIZES, ids=["2", "10", "34", "hostile", "1"])
def picture(request):
    """A figure of these classes, with a title and a note as long as they come."""
    notes = ("the trunk is random (seed 0): these scores show the pipeline and not the model " * 2,)
    return drawn(an_evaluation(request.param, notes=notes, head="h" * 90, data_set="d" * 90))


def test_nothing_is_cut(picture):
    """Title, notes, names, counts and figures lie inside the picture, whatever the classes are called."""
    for text in itertools.chain(picture.texts, *map(texts, picture.axes)):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= picture.bbox.width, text
        assert box.y1 <= picture.bbox.height, text


def test_nothing_overlaps(picture):
    """No text lies on another: names, counts, figures and title all keep apart."""
    written = list(itertools.chain(picture.texts, *map(texts, picture.axes)))
    boxes = np.array([text.get_window_extent().extents for text in written])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low > 0.5).all(axis=2) & ~np.eye(len(boxes), dtype=bool)
    assert [(written[i].get_text(), written[j].get_text()) for i, j in np.argwhere(common)] == []


def test_counts_stay_inside_their_cells(picture):
    """Every count is written where there is room for it, and is neither wider nor higher than its cell."""
    matrix = picture.axes[0]
    (image,) = matrix.images
    counts = [text for text in matrix.texts if text.get_text() != "truth"]
    assert len(counts) == np.count_nonzero(image.get_array())
    cell = matrix.bbox.width / len(image.get_array())
    for text in counts:
        box = text.get_window_extent()
        assert box.width < cell
        assert box.height < cell


def test_34_long_names_are_written_in_full():
    """Drive&Act's names are not shortened, on either axis, and are at least 9 points high."""
    matrix = drawn(an_evaluation(LONG)).axes[0]
    for labels in (matrix.get_xticklabels(), matrix.get_yticklabels()):
        assert tuple(label.get_text() for label in labels) == LONG
        assert min(label.get_fontsize() for label in labels) >= 9


def test_names_are_not_mathematics():
    """A dollar, a backslash and braces in a name are drawn as they stand."""
    labels = [label.get_text() for label in drawn(an_evaluation(HOSTILE)).axes[0].get_yticklabels()]
    assert labels[:4] == list(HOSTILE[:4])
    assert labels[4:8] == [r"line\nbreak", r"\x1b[31m", r"\u202etxt", r"caf\udce9"]


def test_characters_without_a_glyph_stand_as_their_escape():
    """A character that no font here can draw is written as its escape, not as an empty box."""
    labels = [label.get_text() for label in drawn(an_evaluation(HOSTILE)).axes[0].get_yticklabels()]
    assert labels[HOSTILE.index("🐜")] in ("🐜", r"\U0001f41c")
    assert labels[HOSTILE.index("漢字")] in ("漢字", r"\u6f22\u5b57")


def test_an_absent_class_is_visibly_empty():
    """A class without images is hatched in the matrix, has no bar, and says so in place of a recall of 0."""
    found = drawn(an_evaluation(("a", "gone", "c")))
    matrix, bars = found.axes
    (hatched,) = [patch for patch in matrix.patches if patch.get_hatch()]
    assert (hatched.get_y(), hatched.get_width()) == (0.5, 3)
    assert [text.get_text() for text in bars.texts].count("no images") == 1
    widths = [bar.get_width() for bar in bars.patches if isinstance(bar, Rectangle)]
    assert [widths[1], widths[4]] == [0, 0]
    assert min(widths[0], widths[2], widths[3], widths[5]) > 0


def test_bars_and_colours_are_recall_and_shares():
    """The bars are recall, and the colours of the matrix the shares of each row, on one scale from 0 to 1."""
    evaluation = an_evaluation(("a", "b", "c"))
    matrix, bars = drawn(evaluation).axes
    drawn_bars = [bar.get_width() for bar in bars.patches if to_hex(bar.get_facecolor()) == figure.BLUE]
    np.testing.assert_allclose(drawn_bars, np.nan_to_num(evaluation.recall))
    (image,) = matrix.images
    assert image.get_clim() == (0, 1)
    np.testing.assert_allclose(np.diag(image.get_array()), np.nan_to_num(evaluation.recall))


def test_each_bar_has_its_interval():
    """From low to high on the bar's own row; none where a class has no images. The label says what the lines are."""
    evaluation = an_evaluation(("a", "gone", "c"))
    bars = drawn(evaluation).axes[1]
    lines = [line for line in bars.lines if len(set(line.get_ydata())) == 1]
    spans = evaluation.intervals.recall
    assert [line.get_ydata()[0] for line in lines] == [0, 2]
    assert [tuple(line.get_xdata()) for line in lines] == [(spans[i].low, spans[i].high) for i in (0, 2)]
    assert "lines: 95 %" in bars.get_xlabel()
    assert "95 %" not in drawn(replace(evaluation, intervals=None)).axes[1].get_xlabel()


def test_the_title_says_what_was_evaluated():
    """Data set, split, head, accuracy, macro recall, the baseline and every note stand above the picture."""
    evaluation = Evaluation(
        head="lr0.003", data_set="hymenoptera", split="test", classes=("ants", "bees"),
        confusion=np.array([[28, 12], [1, 52]]), notes=("the trunk is random",),
    )  # fmt: skip
    lines = [text.get_text() for text in drawn(evaluation).texts]
    assert lines[0] == "hymenoptera · test · lr0.003"
    assert lines[1] == "93 images: accuracy 86.0 %, macro recall 84.1 % over 2 of 2 classes"
    assert lines[2] == "always predicting bees: accuracy 57.0 %, macro recall 50.0 %"
    assert lines[-1] == "note: the trunk is random"


def test_the_file_is_a_png_that_grows_with_the_classes(tmp_path):
    """save_png leaves one PNG, larger for more classes, and the same bytes for the same evaluation."""
    sizes = []
    for number, classes in enumerate(SIZES[:3]):
        path = tmp_path / f"{number}.png"
        save_evaluation_png(an_evaluation(classes), path)
        sizes.append(size_of(path))
    assert sizes == sorted(sizes)
    assert max(sizes[2]) < 4000
    again = tmp_path / "again.png"
    save_evaluation_png(an_evaluation(SIZES[0]), again)
    assert again.read_bytes() == (tmp_path / "0.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def test_without_rows_there_is_a_picture_all_the_same(tmp_path):
    """An evaluation of no rows is drawn, all hatched."""
    empty = Evaluation(head="h", data_set="d", split="s", classes=("a", "b"), confusion=np.zeros((2, 2), np.int64))
    save_evaluation_png(empty, tmp_path / "a.png")
    assert len([patch for patch in drawn(empty).axes[0].patches if patch.get_hatch()]) == 2


def test_many_classes_do_not_make_a_picture_without_end():
    """400 classes give at most 6,000 pixels a side, and only as many names as there is room for."""
    evaluation = an_evaluation(tuple(f"class {i}" for i in range(400)))
    with style.picture_style():
        found = figure._draw(evaluation)
    assert max(found.get_size_inches()) * style.DPI < 6000
    assert len(found.axes[0].get_yticks()) == 200


def test_a_matplotlibrc_changes_nothing_and_is_left_alone(tmp_path):
    """The picture does not depend on the caller's rcParams, and they are what they were afterwards."""
    save_evaluation_png(an_evaluation(SIZES[0]), tmp_path / "plain.png")
    with mpl.rc_context({"font.size": 30, "figure.facecolor": "black", "savefig.bbox": "tight"}):
        before = dict(mpl.rcParams)
        save_evaluation_png(an_evaluation(SIZES[0]), tmp_path / "styled.png")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "styled.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("a.jpg", r"expected a name that ends in \.png"),
        ("a", r"expected a name that ends in \.png"),
        ("missing/a.png", "Name a file|Make it"),
    ],
)
def test_a_destination_that_cannot_be_is_refused_with_the_way_out(tmp_path, name, way_out):
    """A wrong suffix and a missing folder are UsageErrors, before anything is drawn."""
    with pytest.raises(UsageError, match=way_out):
        save_evaluation_png(an_evaluation(("a", "b")), tmp_path / name)


def test_a_full_disk_is_a_machine_error(tmp_path, monkeypatch):
    """ENOSPC becomes a MachineError, and no file is left."""

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        save_evaluation_png(an_evaluation(("a", "b")), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_importing_the_report_does_not_import_matplotlib(tmp_path):
    """Only a picture pays for the drawing library, and pyplot is never imported."""
    code = (
        "import sys; from featcache.report import tables, terminal; from featcache.report.pictures import figure;"
        "from featcache import Evaluation;"
        "assert 'matplotlib' not in sys.modules, 'matplotlib'; import numpy as np; from pathlib import Path;"
        "names = dict(head='h', data_set='d', split='s', classes=('a',));"
        "evaluation = Evaluation(**names, confusion=np.eye(1, dtype=int));"
        "figure.save_evaluation_png(evaluation, Path(sys.argv[1]));"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "one.png"], check=True, timeout=60)
