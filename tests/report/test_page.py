"""The page as bytes: the same for the same input, inert whatever the names, whole without its images."""

import io
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.dataset.request import DatasetRequest
from featcache.evaluation.evaluate_head import predict_on_split
from featcache.media import BadImageError, estimate_thumbnail_cost, make_thumbnail
from featcache.metrics import calibration
from featcache.report.page.build import build_page
from featcache.report.page.charts import Curve, draw_curves
from featcache.report.page.gallery import EDGE, build_gallery, describe_gallery
from featcache.report.page.image_list import A_PAGE, list_document
from featcache.report.page.matrix_size import matrix_rules
from featcache.report.page.page import Page, render_html, save_html
from featcache.report.page.palette import LEVELS, shade_level, shade_rules
from featcache.report.page.provenance import day
from featcache.report.page.reliability import draw_reliability
from featcache.text import percent, printable
from tests.builders import decode_image_list
from tests.conftest import ARCH, Nano
from tests.report.drives import write_drives

VOID = {"meta", "link", "input", "img", "br", "wbr"}


class Balanced(HTMLParser):
    """Every element is closed in its turn; nothing refers to another file."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.refers += [value or "" for name, value in attributes if name in ("src", "href", "action", "style")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    drives = write_drives(tmp_path_factory.mktemp("drives"), rows=4000)
    where = {"data": str(drives.root), "cache": drives.cache}
    fit = featcache.fit_head([0.01, 0.1], **where, epochs=3, device="cpu", check_seconds=1)
    return drives, where, fit


@pytest.fixture(scope="module")
def page(made) -> Page:
    return build_page(predict_on_split(DatasetRequest(**made[1])))


def test_the_same_input_gives_the_same_bytes(made, page, tmp_path):
    """Twice written, from the cache on: not one byte differs."""
    save_html(page, tmp_path / "one.html")
    save_html(build_page(predict_on_split(DatasetRequest(**made[1]))), tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_it_is_whole_and_refers_to_nothing(page):
    """Balanced HTML without handlers, inline styles or links; a policy that forbids everything it does not carry."""
    text = render_html(page, build_gallery(page.predictions, page.root))
    found = Balanced()
    found.feed(text)
    found.close()
    assert found.open == []
    assert found.refers == ["data:,"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src &#39;none&#39;")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2
    assert "http:" not in text
    assert "https:" not in text


def test_it_says_all_that_it_should(made, page):
    """Figures with intervals, by image and by clip; the curves of every head; the certificate; how it was made."""
    text = render_html(page, build_gallery(page.predictions, page.root))
    drives, _, fit = made
    evaluation = page.evaluation
    for one in (evaluation, evaluation.beside):
        low, high = one.intervals.macro_recall.low, one.intervals.macro_recall.high
        assert f"{100 * one.macro_recall:.1f} %<small>{100 * low:.1f} to {100 * high:.1f}</small>" in text
    assert "10,000 resamples of 5 subjects" in re.sub(r"\s+", " ", text)
    assert fit.check.sentence().replace("'", "&#39;") in text
    assert all(f"lr {rate}" in text for rate in ("0.01", "0.1"))
    assert text.count('class="panel"') == 4
    assert "--weights nano.pth --precision fp32 --lr 0.01 --lr 0.1 --epochs 3" in text
    assert f"featcache fit-head --data {drives.root}" in text
    assert "put its folder before nano.pth" in text  # of this store nobody knows where they lay
    assert "featcache report lr0.1" in text
    assert fit.best.sources["train"]["trunk"] in text


def test_another_classifier_has_a_page_too(made, tmp_path):
    """One that gives no probabilities: no calibration and no confidence is claimed, and the command is its own."""
    where = made[1]
    ridge = featcache.fit("ridge", {"alpha": 1.0}, **where)
    found = build_page(predict_on_split(DatasetRequest(**where), ridge.best.name))
    shown = save_html(found, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert shown.thumbnails
    assert f"featcache fit ridge alpha=1.0 class_weight=None --data {where['data']}" in text
    assert "this is another classifier" in text
    assert (found.evaluation.calibration is None) == (not found.predictions.has_probabilities)
    featcache.fit_head([0.01, 0.1], **where, epochs=3, device="cpu", check_seconds=1)  # the newest again


def test_every_count_stands_in_the_matrix(page):
    """Cell by cell what the confusion matrix says, the largest rounding of a share within half a per cent."""
    text = render_html(page, build_gallery(page.predictions, page.root))
    rows = re.findall(r"<tr data-i=\"\d+\"><th scope=\"row\".*?</tr>", text.split('id="classes"')[0], re.DOTALL)
    counts = [[int(n or 0) for n in re.findall(r"<td[^>]*>(?:<b>(\d+)</b>.*?)?</td>", row)] for row in rows]
    assert counts == page.evaluation.confusion.tolist()


def test_without_its_images_the_page_is_whole_and_says_so(page, tmp_path):
    """Moved away altogether, or one of them: the page has everything else, and a note."""
    away = replace(page, root=str(tmp_path / "moved"))
    shown = save_html(away, tmp_path / "report.html")
    assert not shown.thumbnails
    assert "no longer in" in shown.note
    assert "no longer in" in (tmp_path / "report.html").read_text("utf-8")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "test").symlink_to(tmp_path / "nowhere")
    assert "no image could be read" in build_gallery(away.predictions, away.root).note

    shutil.copytree(page.root, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "test" / "class03")
    part = build_gallery(away.predictions, str(tmp_path / "part"))
    assert 0 < part.unread < part.wanted
    assert f"{part.unread:,} of {part.wanted:,} images could not be read" in part.note


def test_a_cell_lists_all_its_answers_and_thumbnails_go_round(page):
    """Every answer of a cell, by confidence; every cell's first image has its thumbnail before any cell's second."""
    answers = page.predictions
    shown = build_gallery(answers, page.root, in_all=40)
    assert len({answers.paths[row] for row in shown.thumbnails}) == 40
    for (truth, predicted), rows in shown.rows.items():
        inside = np.flatnonzero((answers.truth == truth) & (answers.predicted == predicted))
        best = inside[np.argsort(-answers.confidence[inside], kind="stable")]
        assert list(rows) == best.tolist()
    largest = sorted(shown.rows, key=lambda cell: -page.evaluation.confusion[cell])[:20]
    assert all(shown.rows[cell][0] in shown.thumbnails for cell in largest)
    every = build_gallery(answers, page.root)
    assert every.thumbnails.keys() == {row for rows in every.rows.values() for row in rows}
    assert describe_gallery(every, answers) == "all 4,000 images, each with a thumbnail"
    assert describe_gallery(shown, answers).startswith("all 4,000 images; 40 of ")


def test_the_list_holds_every_name_and_probability(page):
    """Names that share their beginnings, and signs of four bytes, come back; so do both probabilities, as text."""
    answers = page.predictions
    strange = ("a/\U0001f41c1.png", "a/\U0001f41c2.png", "a/\U0001f41d2.png", "\u202e.png", "é.png")
    answers = replace(answers, names=strange + tuple(f"{name}-{row}" for row, name in enumerate(answers.names[5:])))
    rows = build_gallery(answers, "/nowhere").rows
    document = list_document(answers, rows, {})
    names = decode_image_list(document)
    assert len(set(names)) == len(answers.truth)
    for (truth, predicted), of_cell in rows.items():
        numbers, sure, *rest = document["cells"][f"{truth},{predicted}"]
        assert [names[number] for number in numbers] == [printable(answers.names[row]) for row in of_cell]
        columns = [(sure, predicted)] + ([(rest[0], truth)] if truth != predicted else [])
        for column, label in columns:
            shares = [document["percents"][number] for number in column]
            assert shares == [percent(float(answers.probabilities[row, label])) for row in of_cell]
        assert len(rest) == (truth != predicted)
    longest = max(map(len, rows.values()))
    assert (document["firsts"][1], document["lasts"][0]) == (str(A_PAGE + 1), str(A_PAGE))
    assert len(document["firsts"]) == -(-longest // A_PAGE)


def test_a_list_that_would_be_too_long_is_cut_and_says_so(page):
    """The largest cells keep their most confident answers, small ones all; the page names both numbers."""
    whole = build_gallery(page.predictions, page.root, in_all=0).rows
    cut = build_gallery(page.predictions, page.root, list_bytes=30_000, in_all=5)
    longest = max(map(len, cut.rows.values()))
    assert 1 < longest < max(map(len, whole.values()))
    assert cut.rows == {cell: rows[:longest] for cell, rows in whole.items()}
    listed = sum(map(len, cut.rows.values()))
    text = re.sub(r"\s+", " ", render_html(page, cut))
    assert f"{listed:,} of 4,000 images, at most {longest:,} of a cell to keep the page small; 5 of" in text


def test_large_images_are_fewer(page, tmp_path):
    """What would decode too many pixels is left out, smaller images behind it are not; a JPEG counts at an eighth."""
    shutil.copytree(page.root, tmp_path / "mixed")
    first = build_gallery(page.predictions, page.root, in_all=1)
    (path,) = {page.predictions.paths[row] for row in first.thumbnails}
    Image.new("RGB", (960, 540)).save(tmp_path / "mixed" / path)
    one = 96 * 54
    shown = build_gallery(page.predictions, str(tmp_path / "mixed"), in_all=30, pixels=10 * one)
    assert path not in (small := {page.predictions.paths[row] for row in shown.thumbnails})
    assert (len(small), shown.wanted, shown.unread) == (10, 10, 0)

    for size, kind, effort in (((960, 540), "PNG", 960 * 540), ((960, 540), "JPEG", 960 * 540 // 8)):
        file = io.BytesIO()
        Image.new("RGB", size).save(file, kind)
        assert estimate_thumbnail_cost(file) == effort
    with pytest.raises(BadImageError):
        estimate_thumbnail_cost(io.BytesIO(b"no image"))


def test_frames_that_a_video_lacks_have_no_thumbnail(page, tmp_path):
    """A video that ends early, one that is gone: their other frames stand there, progress counts every one."""
    videos = pytest.importorskip("tests.videos", reason="needs PyAV")
    videos.write_video(tmp_path / "short.mp4", videos.pictures(8))
    paths = ("short.mp4#000002", "short.mp4#000007", "short.mp4#000008", "gone.mp4#000000")
    many = np.arange(len(paths))
    answers = replace(page.predictions, truth=many, predicted=many, probabilities=np.eye(34)[many], paths=paths)
    told = []
    shown = build_gallery(answers, str(tmp_path), videos=True, progress=lambda *at: told.append(at))
    assert shown.thumbnails.keys() == {0, 1}
    assert (shown.wanted, shown.unread) == (4, 2)
    assert "2 of 4 images could not be read" in shown.note
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_fifo_or_a_folder_in_place_of_an_image_does_not_stop_the_report(page, tmp_path):
    """What is no image has no thumbnail, and nothing waits for it."""
    for row in {rows[0] for rows in build_gallery(page.predictions, "/nowhere").rows.values()}:
        path = tmp_path / page.predictions.paths[row]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.mkfifo(path)
    assert build_gallery(page.predictions, str(tmp_path)).thumbnails == {}


def test_thumbnails_are_small_and_upright(tmp_path):
    """The longer edge is EDGE, the shape is kept, an orientation tag is applied; what is no image is refused."""
    picture = Image.effect_noise((960, 540), 80).convert("RGB")
    file = io.BytesIO()
    picture.save(
        file,
        "JPEG",
        exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00",
    )
    small = Image.open(io.BytesIO(make_thumbnail(file.getvalue(), EDGE)))
    assert (small.format, small.size) == ("WEBP", (EDGE * 540 // 960, EDGE))
    with pytest.raises(BadImageError):
        make_thumbnail(b"no image", EDGE)


def test_without_rows_clips_check_or_curves_there_is_still_a_page(page, tmp_path):
    """What is not there is left out, or said to be missing."""
    none = np.zeros(0, np.int64)
    empty = replace(
        page, curves=(), check=None, check_note="Not known.", train_support=(), recipe="",
        evaluation=replace(page.evaluation, confusion=page.evaluation.confusion * 0, intervals=None, beside=None,
                           calibration=None),
        predictions=replace(page.predictions, truth=none, predicted=none, probabilities=np.zeros((0, 34)), names=(),
                            paths=(), clips=(), subjects=()),
    )  # fmt: skip
    save_html(empty, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "0 images" in text
    assert "Not known." in text
    assert 'id="matrix"' not in text


def test_words_stand_before_any_hash(made, page):
    """Title, day, data, trunk and head are in words at the top; hashes are folded away, and in the commands."""
    text = render_html(page, build_gallery(page.predictions, page.root))
    head, _, rest = text.partition("</header>")
    shown = re.sub(r"<[^>]*>", " ", head.partition("<header>")[2])
    for words in (
        "drives",
        "test",
        page.trained,
        "4,000 images",
        "vit_nano_16, weights of the file nano.pth",
        "linear",
    ):
        assert words in shown
        assert shown.index(words) < shown.index(page.evaluation.head)
    assert re.fullmatch(r"\d{1,2} [A-Z][a-z]+ 20\d\d", page.trained)
    title = re.search("<title>(.*?)</title>", text)[1]
    assert title.startswith("drives · test · linear, learning rate 0.1")
    outside = re.sub(r"<details>.*?</details>|<script.*?</script>", "", rest, flags=re.DOTALL)
    assert re.findall(r"\b[0-9a-f]{40,}\b", outside) == []
    assert made[2].best.sources["train"]["trunk"] in text


def test_a_day_is_written_the_same_everywhere():
    """In UTC and in English; a number that is no time of day says nothing."""
    assert day(1_764_460_800_000_000_000) == "30 November 2025"
    assert [day(0), day(-5), day(10**40)] == ["", "", ""]


def test_names_lie_flat_where_they_fit():
    """Short names may lie above their columns, from a width on that grows with them; long ones stand upright."""
    assert "--classes:2;" in matrix_rules(["ants", "bees"])
    widths = [float(re.search(r"min-width:([\d.]+)em", matrix_rules(["ants"] * n))[1]) for n in (2, 3, 10)]
    assert widths == sorted(widths)
    assert "@container" not in matrix_rules(["ants", "looking_or_moving_around"])


def test_sparse_bins_are_hollow_and_every_bin_has_its_figures(page):
    """A bin of fewer than ten predictions is drawn hollow; count, share and interval of each stand in a table."""
    sure, right = np.repeat([0.2, 0.9], [9, 10]), np.arange(19) % 2 == 0
    drawn = draw_reliability(calibration(sure, right))
    assert [drawn.count(f'class="{kind}"') for kind in ("hollow", "fill", "whisker")] == [1, 1, 2]
    text = render_html(page, build_gallery(page.predictions, page.root))
    table = re.search(r'<table class="list" id="bins">.*?</table>', text, re.DOTALL)[0]
    bins = page.evaluation.calibration
    assert bins.unit == "subject"
    assert table.count("<tr") == 1 + np.count_nonzero(bins.count)
    for count, share, interval in zip(bins.count, bins.right, bins.intervals, strict=True):
        if count:
            figures = f'{100 * share:.1f}</td><td class="n">'
            figures += f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else "too few"
            assert f'<td class="n">{count:,}</td>' in table
            assert figures in table
    assert "intervals of Wilson, over subjects" in re.sub(r"\s+", " ", text)


def test_every_shade_is_legible():
    """Text on every shade of the matrix, light and dark, has a contrast of 4.5; more share is deeper."""
    rules = re.findall(r"\.(\w\d+)\{background:#(\w{6});color:#(\w{6})\}", shade_rules())
    assert len(rules) == 4 * LEVELS

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for _, back, text in rules:
        dark, light = sorted((luminance(back), luminance(text)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    assert [shade_level(0), shade_level(1e-9), shade_level(1)] == [0, 1, LEVELS]
    assert np.all(np.diff([shade_level(share) for share in np.linspace(0, 1, 100)]) >= 0)


def test_curves_of_one_epoch_of_none_and_of_a_diverged_head():
    """A dot, nothing, and a line as far as it is finite; labels lie apart."""
    one = Curve("lr 1", True, (1,), {"train_loss": (0.5,)})
    assert "circle" in draw_curves([one], "train_loss", share=False, title="t")
    assert draw_curves([one], "val_loss", share=False, title="t") is None
    wild = Curve("<b>", False, (1, 2, 3), {"train_loss": (1.0, float("inf"), float("nan"))})
    drawn = draw_curves([one, wild], "train_loss", share=False, title="t")
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert "&lt;b&gt;" in drawn
    flat = [Curve(f"lr {n}", False, (1, 2), {"val_macro_recall": (0.5, 0.5)}) for n in range(5)]
    places = re.findall(
        r'class="label" x="[\d.]+" y="([\d.]+)"', draw_curves(flat, "val_macro_recall", share=True, title="t")
    )
    assert min(np.diff(sorted(map(float, places)))) >= 11
    assert "polyline" not in draw_reliability(calibration(np.array([0.2, 0.9]), np.array([True, False])))


def test_the_command_writes_the_page(run, nano: Nano, folder, tmp_path):
    """From real images to the page, a real thumbnail in it; --json stays one document; what cannot be is refused."""
    where = {"data": str(folder), "cache": tmp_path / "cache"}
    settings = featcache.Settings(device="cpu", workers=1, batch_size=8)
    featcache.extract(**where, arch=ARCH, weights=str(nano.weights), precision="fp32", settings=settings)
    featcache.fit_head([0.1, 1.0], **where, epochs=3, device="cpu", check_seconds=None)
    flags = ("report", "--data", folder, "--cache", tmp_path / "cache")
    ran = run(*flags, "--html", tmp_path / "r.html", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["intervals"]["unit"] == "image"
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "--no-check" in text
    assert '"thumbnails":["' in text
    assert run(*flags, "--folds", "0,1", "--html", tmp_path / "r.html").code == 2
    assert run(*flags, "--folds", "a").code == 2
    assert run(*flags, "--by", "clip").code == 4
    assert "A - B" in run(*flags, "lr0.1", "--against", "lr1").out
