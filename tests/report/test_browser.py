"""The page in a real browser: it sorts, it shows the right images, it fetches nothing, everybody can read it."""

import base64
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.dataset.request import DatasetRequest
from featcache.evaluation.evaluate_head import HeadOnSplit, predict_on_split
from featcache.report.page.build import build_page
from featcache.report.page.image_list import A_PAGE
from featcache.report.page.page import Page, save_html
from tests.builders import HOSTILE
from tests.report.drives import colour, write_drives

FLAGS = [
    f"--{flag}"
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
                 "disable-background-networking", "disable-component-update")
]  # fmt: skip
ROWS = 80_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """The system's Chromium, driven by Playwright."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        said = "no Chromium on this machine (`make browser` installs it on Debian)"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> HeadOnSplit:
    """A head on 34 classes and 80,000 rows, with people, clips and pictures."""
    drives = write_drives(tmp_path_factory.mktemp("drives"), rows=ROWS)
    where = {"data": str(drives.root), "cache": drives.cache}
    featcache.fit_head([0.01, 0.1], **where, epochs=4, batch_size=512, device="cpu", check_seconds=1)
    return predict_on_split(DatasetRequest(**where))


@pytest.fixture(scope="module")
def written(examined: HeadOnSplit, tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    page = build_page(examined)
    save_html(page, path)
    return page, path


class Watched:
    """A tab of the browser, and all that it asked for and complained about."""

    def __init__(self, chromium, path: Path, *, width: int = 1400, dark: bool = False, script: bool = True) -> None:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light",
            java_script_enabled=script, offline=True,
        )  # fmt: skip
        self.tab = context.new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.goto(path.as_uri())

    def clean(self, path: Path) -> None:
        assert [url for url in self.asked if not url.startswith("data:")] == [path.as_uri()]
        assert self.said == []

    def axe(self) -> list[str]:
        from axe_playwright_python.sync_playwright import Axe

        answer = Axe().run(self.tab).response
        assert "color-contrast" in {one["id"] for one in answer["passes"]}  # it did look
        found = answer["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found
                if one["impact"] in ("serious", "critical")]  # fmt: skip

    def cell(self, truth: int, predicted: int):
        """The cell of two classes, whatever the order."""
        place = self.tab.evaluate(
            f"[...document.querySelectorAll('#matrix thead th')].findIndex(th => th.dataset.i === '{predicted}')"
        )
        return self.tab.locator(f"#matrix tbody tr[data-i='{truth}'] td").nth(place)


def order_of(tab) -> list[list[int]]:
    return [
        tab.evaluate(f"[...document.querySelectorAll('{rows}')].map(row => +row.dataset.i)")
        for rows in ("#matrix tbody tr", "#matrix thead th", "#classes tbody tr")
    ]


def test_the_page_is_small(written):
    """34 classes and 80,000 rows with thumbnails: under 6 MB."""
    assert written[1].stat().st_size < 6_000_000


def test_sorting_moves_rows_columns_and_bars_alike(chromium, written):
    """By recall, support and name: rows, columns and the list below stand in that order; every count stays its own."""
    page, path = written
    seen = Watched(chromium, path)
    recall, support = page.evaluation.recall, page.evaluation.support
    for what, expected in (
        ("recall", np.argsort(np.nan_to_num(recall, nan=2), kind="stable")),
        ("support", np.argsort(-support, kind="stable")),
        ("name", np.arange(34)),
    ):
        seen.tab.locator(f"input[value={what}]").check()
        assert order_of(seen.tab) == [expected.tolist()] * 3
        counts = seen.tab.evaluate(
            "[...document.querySelectorAll('#matrix tbody tr')].map(r => [...r.cells].slice(1).map("
            "c => +(c.querySelector('b')?.textContent ?? 0)))"
        )
        assert counts == page.evaluation.confusion[np.ix_(expected, expected)].tolist()
    seen.clean(path)


def test_a_click_shows_the_images_of_that_cell(chromium, written):
    """The most confident mistakes first, with path and both probabilities, and each thumbnail is that very picture."""
    page, path = written
    answers = page.predictions
    off = page.evaluation.confusion.copy()
    np.fill_diagonal(off, 0)
    seen = Watched(chromium, path)
    seen.tab.locator("input[value=recall]").check()
    for flat in np.argsort(-off, axis=None)[:3].tolist():
        truth, predicted = divmod(flat, 34)
        rows = np.flatnonzero((answers.truth == truth) & (answers.predicted == predicted))
        order = rows[np.argsort(-answers.confidence[rows], kind="stable")]
        best = order[:A_PAGE]
        seen.cell(truth, predicted).click()
        dialog = seen.tab.locator("#cell")
        names = page.evaluation.classes
        assert dialog.locator("h2").inner_text() == f"{names[truth]} taken for {names[predicted]}"
        assert dialog.locator("code").all_inner_texts() == [answers.paths[row] for row in best]
        count = f"{len(rows):,} images" if len(rows) > 1 else "1 image"
        first_page = f"1 to {len(best)} of {count}, the most confident first"
        assert dialog.locator("#cell-count").inner_text() == first_page
        said = dialog.locator("span").all_inner_texts()
        assert said == [
            f"{100 * float(answers.confidence[row]):.1f} % {names[predicted]}; "
            f"{100 * float(answers.probabilities[row, truth]):.1f} % {names[truth]}"
            for row in best
        ]
        images = dialog.locator("img")
        assert images.count() == len(best)
        for place in range(6):
            data = images.nth(place).get_attribute("src").partition("base64,")[2]
            assert images.nth(place).evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
            pixel = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").getpixel((40, 20))
            number = int(answers.paths[best[place]].rpartition("_")[2].removesuffix(".png"))
            assert np.abs(np.subtract(pixel, colour(truth, number))).max() <= 6
        seen.tab.keyboard.press("Escape")
        assert not dialog.is_visible()
    seen.clean(path)


def test_every_image_of_a_cell_is_reached_page_by_page(chromium, written):
    """Next goes on to the last image of the largest cell, the numbers say where one is, Previous comes back."""
    page, path = written
    answers = page.predictions
    truth, predicted = np.unravel_index(page.evaluation.confusion.argmax(), (34, 34))
    rows = np.flatnonzero((answers.truth == truth) & (answers.predicted == predicted))
    order = rows[np.argsort(-answers.confidence[rows], kind="stable")]
    seen = Watched(chromium, path)
    seen.cell(truth, predicted).click()
    dialog = seen.tab.locator("#cell")
    assert dialog.locator("#earlier").is_disabled()
    listed = seen.tab.evaluate(
        "() => { const names = []; for (;;) {"
        " names.push(...[...document.querySelectorAll('#shown code')].map(code => code.textContent));"
        " if (document.getElementById('later').disabled) return names;"
        " document.getElementById('later').click(); } }"
    )
    assert listed == [answers.names[row] for row in order]
    last = len(rows) - (len(rows) - 1) % A_PAGE
    assert dialog.locator("#cell-count").inner_text().startswith(f"{last:,} to {len(rows):,} of {len(rows):,} images")
    dialog.locator("#earlier").click()
    assert dialog.locator("code").first.inner_text() == answers.names[order[last - 1 - A_PAGE]]
    seen.clean(path)


def test_a_phone_shows_every_section_and_every_column(chromium, written):
    """At 360 px nothing is left out: the sections and columns of a wide screen; a table that is wider scrolls alone."""
    _, path = written
    columns = "[...document.querySelectorAll('main th[scope=col], main h2, header dd')].filter(e => e.offsetWidth)"
    what = f"{columns}.map(e => e.textContent.trim())"
    wide, phone = Watched(chromium, path), Watched(chromium, path, width=360)
    assert phone.tab.evaluate(what) == wide.tab.evaluate(what)
    outside = (
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.wide, pre, .hidden, svg'))"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1 && e.offsetWidth)"
        ".map(e => e.outerHTML.slice(0, 90))"
    )
    assert phone.tab.evaluate(outside) == []
    cut = "[...document.querySelectorAll('main *')].filter(e => getComputedStyle(e).textOverflow === 'ellipsis').length"
    assert phone.tab.evaluate(cut) == 0
    for place in range(phone.tab.locator(".wide").count()):
        box = phone.tab.locator(".wide").nth(place)
        reached = box.evaluate("b => { b.scrollLeft = 1e6; return b.scrollLeft + b.clientWidth >= b.scrollWidth - 1 }")
        assert reached


def test_paper_shows_what_is_folded_away(chromium, written):
    """Hashes, the check's figures and the recipe are folded on the screen, open while the page is printed."""
    _, path = written
    seen = Watched(chromium, path)
    opened = "[...document.querySelectorAll('details')].filter(part => part.open).length"
    assert seen.tab.locator("details").count() == 3
    for event, count in (("beforeprint", 3), ("afterprint", 0)):
        seen.tab.evaluate(f"dispatchEvent(new Event('{event}'))")
        assert seen.tab.evaluate(opened) == count


@pytest.mark.parametrize("width", [1400, 800, 360])
def test_the_matrix_takes_the_place_that_it_has(chromium, written, width):
    """On a wide screen it fills its box without scrolling; a cell is never smaller than 24 pixels."""
    _, path = written
    seen = Watched(chromium, path, width=width)
    box = seen.tab.locator(".place").evaluate("b => [b.scrollWidth, b.clientWidth, b.firstElementChild.offsetWidth]")
    if width == 1400:
        assert box[0] == box[1]
        assert box[2] > 0.9 * box[1]
    edges = "[...document.querySelectorAll('#matrix tbody td')].map(e => Math.min(e.offsetWidth, e.offsetHeight))"
    assert min(seen.tab.evaluate(edges)) >= 24


def test_counts_become_shares_and_hovering_names_both_classes(chromium, written):
    """The toggle shows per cent of the row, without JavaScript too; a cell tells both classes, an empty one as well."""
    page, path = written
    largest = int(page.evaluation.support.argmax())
    count = page.evaluation.confusion[largest, largest]
    for script in (True, False):
        seen = Watched(chromium, path, script=script)
        cell = seen.tab.locator(f"#matrix tbody tr[data-i='{largest}'] td").nth(largest)
        assert cell.inner_text().strip() == str(count)
        seen.tab.locator("#as-shares").check()
        assert cell.inner_text().strip() == f"{100 * count / page.evaluation.support[largest]:.0f}"
        assert not script or seen.tab.locator("input[value=support]").is_visible()
        assert script or not seen.tab.locator("fieldset.scripted").is_visible()
    seen = Watched(chromium, path)
    i, j = np.argwhere(page.evaluation.confusion == 0)[40]
    seen.cell(i, j).hover()
    told = seen.tab.locator("#told").inner_text()
    assert page.evaluation.classes[i] in told
    assert page.evaluation.classes[j] in told


def test_hovering_moves_nothing(chromium, written):
    """The names of the longest row and column are marked without growing: a click lands where the pointer is."""
    page, path = written
    seen = Watched(chromium, path)
    longest = max(range(34), key=lambda i: len(page.evaluation.classes[i]))
    assert page.evaluation.support[longest]
    cell = seen.cell(longest, longest)
    cell.scroll_into_view_if_needed()
    before = cell.bounding_box()
    cell.hover()
    assert seen.tab.locator("#matrix th.on").count() == 2
    assert cell.bounding_box() == before


def test_the_keyboard_reaches_every_cell(chromium, written):
    """Tab into the matrix, arrows within it, Enter looks, Escape closes and comes back to the cell."""
    page, path = written
    seen = Watched(chromium, path)
    seen.tab.locator("#matrix tbody td[tabindex='0']").focus()
    seen.tab.keyboard.press("ArrowDown")
    seen.tab.keyboard.press("ArrowRight")
    seen.tab.keyboard.press("Enter")
    assert seen.tab.locator("#cell h2").inner_text() == f"{page.evaluation.classes[1]}, right"
    seen.tab.keyboard.press("Escape")
    assert seen.tab.evaluate("document.activeElement.cellIndex") == 2


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (1400, True), (360, False), (360, True)])
def test_it_reads_at_any_width_in_light_and_dark(chromium, written, width, dark):
    """Nothing makes the page wider than a phone; axe finds no serious fault, with an open cell neither."""
    _, path = written
    seen = Watched(chromium, path, width=width, dark=dark)
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(21, 23, 27)" if dark else "rgb(253, 253, 251)"
    )
    assert seen.axe() == []
    seen.tab.locator("#matrix tbody td[class]:not(:empty)").first.click()
    assert seen.axe() == []
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= width
    seen.clean(path)


def test_hostile_names_do_nothing(chromium, tmp_path):
    """Scripts, quotes, newlines, bidi controls, 300 characters: no dialog, no element, no error, no wider page."""
    names = (
        *HOSTILE,
        "<script>alert(1)</script>",
        "'\"><img src=x onerror=alert(1)>",
        "</script><b>",
        "{{ 7*7 }}",
        "=cmd",
    )
    drives = write_drives(tmp_path, tuple(sorted(names)), rows=3000)
    where = {"data": str(drives.root), "cache": drives.cache}
    featcache.fit_head(0.1, **where, epochs=2, device="cpu", check_seconds=None)
    path = tmp_path / "report.html"
    save_html(build_page(predict_on_split(DatasetRequest(**where))), path)
    seen = Watched(chromium, path, width=360)
    seen.tab.on("dialog", lambda dialog: seen.said.append(dialog.message))
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert seen.tab.evaluate("document.scripts.length") == 2
    assert seen.tab.locator("main img, main b b").count() == 0
    text = path.read_text("utf-8")
    assert not any(sign in text for sign in ("\u202e", "\x1b", "\u200b", "<script>alert", "<img src=x"))
    assert "{{ 7*7 }}" in seen.tab.locator("#classes").inner_text()
    longest = max(range(len(names)), key=lambda i: len(sorted(names)[i]))
    seen.tab.locator(f"#matrix tbody tr[data-i='{longest}'] td:not(:empty)").first.click()
    assert seen.tab.locator("#cell").is_visible()
    wide = "[...document.querySelectorAll('#shown li')].filter(item => item.scrollWidth > item.clientWidth).length"
    assert seen.tab.evaluate(wide) == 0
    seen.clean(path)
