"""Run the commands that the documentation shows, and put what they print where it stands: `make docs-refresh`.

A block of real output is a fenced `console` block below a comment that says in which world it runs:

    <!-- run: digits -->
    ```console
    $ featcache compare
    ...
    ```

Each line that begins with `$ ` is run by bash in that world's folder; what it prints replaces the lines below it.
Options stand behind the world: `; keep: REGEX` shows only the lines that match, `; first: N` only the first N lines (an
ellipsis stands for the others), `; exit: N` says with which code the last command ends (`; exit: 2 0 4` the code of
each), `; before: NAME` calls a function of this script first. `; runs: COMMAND` is what runs in place of the block's
first command; the other lines that begin with `$ ` are then its output. `<!-- prints: digits -->` stands above a `text`
block that gets what the Python block before it prints.

The worlds need no download: scikit-learn's handwritten digits, and pictures cut from its two photographs. The demo
embeds the digits with the weights that a package brings: the pages are written where torchvision's are out of reach.
Elsewhere the weights are random, as the commands say.
"""

import argparse
import itertools
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = (  # in this order within a world
    "docs/getting-started.md",
    "docs/first-commands.md",
    "README.md",
    "docs/guides/own-images.md",
    "docs/guides/drive-and-act.md",
    "docs/guides/sweeps.md",
    "docs/guides/classifiers.md",
    "docs/guides/report.md",
    "docs/guides/predict-and-export.md",
    "docs/guides/videos.md",
    "docs/guides/larger-than-memory.md",
    "docs/guides/keeping-a-cache.md",
)
OPTIONS = r"((?:; [a-z]+: [^;\n]+?)*)"
BLOCK = re.compile(rf"<!-- (run|prints): ([a-z]+){OPTIONS} -->\n```(?:console|text)\n(.*?)```\n", re.DOTALL)
MACHINE = re.compile(r"(<!-- machine -->\n)[^\n]*\n")
PROGRESS = re.compile(r"[^:]+: [\d,]+ of [\d,]+( |$)")  # what a command prints while it works
WIDTH = 100  # columns
LOAD = os.getloadavg()[0]  # processes that wanted a core, before ours


@dataclass(frozen=True, slots=True)
class World:
    """A folder that commands run in, and the environment variables that they find."""

    folder: Path
    environment: dict[str, str]


def main() -> None:
    """Run every documented command, then write the pages."""
    parser = argparse.ArgumentParser(description="Refresh the real output in README.md and docs/.")
    parser.add_argument("--folder", type=Path, help="where to run; a temporary folder without it")
    parser.add_argument("--only", action="append", help="a page; several: repeat it. Its world must stand in --folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        pages = [ROOT / page for page in options.only or PAGES]
        texts = {page: page.read_text("utf-8") for page in pages}
        outputs: dict[tuple[Path, int], str] = {}  # by page and place
        try:
            for name in WORLDS:
                for page in pages:
                    for block in BLOCK.finditer(texts[page]):
                        if block[2] == name:
                            print(f"{page.relative_to(ROOT)}: {name}", flush=True)
                            place = (page, block.start())
                            outputs[place] = _refreshed(block, texts[page][: place[1]], _world(folder, name))
        finally:  # a block whose command failed, and those behind it, stay as they are
            for page, text in texts.items():
                text = BLOCK.sub(lambda block: outputs.get((page, block.start()), block[0]), text)  # noqa: B023
                page.write_text(MACHINE.sub(lambda line: f"{line[1]}{machine()}\n", text), "utf-8")


def machine() -> str:
    """Return one sentence: where and when the outputs were made."""
    import torch

    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(models, platform.machine())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"The output on this page is real: {datetime.now(UTC):%Y-%m-%d}, {cores} cores ({model}), load average "
        f"{LOAD:.1f} when it began, Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}."
    )


def _refreshed(block: re.Match[str], before: str, world: World) -> str:
    """Return a block with its commands run anew."""
    options = dict(part.split(": ", 1) for part in block[3].split("; ") if part)
    if "before" in options:
        BEFORE[options["before"]](world)
    head = block[0].partition("```")[0]
    if block[1] == "prints":
        code = re.findall(r"```python\n(.*?)```", before, re.DOTALL)[-1]
        return f"{head}```text\n{_run([sys.executable, '-c', code], world, 0)}```\n"
    parts = []
    commands = [line[2:] for line in block[4].splitlines() if line.startswith("$ ")]
    if "runs" in options:
        commands = commands[:1]
    ends = [int(code) for code in options.get("exit", "0").split()]
    ends = [0] * (len(commands) - len(ends)) + ends
    for command, code in zip(commands, ends, strict=True):
        output = _run_once(options["runs"], world, code) if "runs" in options else _shell(command, world, code)
        parts.append(_shortened(f"$ {command}\n{output}", options))
    return f"{head}```console\n{chr(10).join(parts)}```\n"


_OUTPUTS: dict[tuple[Path, str], str] = {}  # by the world's folder and the command


def _run_once(command: str, world: World, code: int) -> str:
    """Return what a command prints that several pages show."""
    if (world.folder, command) not in _OUTPUTS:
        _OUTPUTS[world.folder, command] = _shell(command, world, code)
    return _OUTPUTS[world.folder, command]


def _shell(command: str, world: World, code: int) -> str:
    return _run(["bash", "-c", command], world, code)


def _run(words: list[str], world: World, code: int) -> str:
    """Run a command and return what it printed, without its progress and without this machine's folders.

    Raises:
        SystemExit: it ended with another code.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FEATCACHE_")}
    path = f"{world.folder.parent / 'bin'}{os.pathsep}{kept['PATH']}"
    environment = {
        **kept, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": str(WIDTH),
        "XDG_STATE_HOME": str(world.folder.parent / "state"), **world.environment,
    }  # fmt: skip
    done = subprocess.run(
        words, cwd=world.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != code:
        raise SystemExit(f"{' '.join(words)}: ended with {done.returncode}, expected {code}\n{done.stdout}")
    text = done.stdout.replace(f"{world.folder}/", "")
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if not PROGRESS.match(line))


def _shortened(text: str, options: dict[str, str]) -> str:
    lines = text.splitlines()
    if "keep" in options:
        pattern = re.compile(options["keep"])
        return "".join(f"{line}\n" for line in lines if pattern.search(line))
    count = int(options.get("first", len(lines)))
    return "".join(f"{line}\n" for line in lines[:count]) + ("…\n" if len(lines) > count else "")


def _world(folder: Path, name: str) -> World:
    """Return a world, made where it is not there yet."""
    shim = folder / "bin" / "featcache"
    if not shim.exists():
        shim.parent.mkdir(parents=True, exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m featcache "$@"\n')
        (shim.parent / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for path in shim.parent.iterdir():
            path.chmod(0o755)
    make, environment = WORLDS[name]
    place = folder / {"demo": "digits"}.get(name, name)
    if not place.exists():
        place.mkdir(parents=True)
        make(place)
    return World(place, environment)


# --- the worlds ------------------------------------------------------------------------------------------------------


def _nothing(_: Path) -> None:
    """Leave the folder empty: `featcache demo` writes the digits itself."""


def _photos(folder: Path) -> None:
    """Write `photos/<split>/<class>/<number>.jpg`: different windows of scikit-learn's two photographs."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
        photograph = Image.fromarray(pixels)  # 640x427
        for split, count in (("train", 40), ("val", 20), ("test", 20)):
            place = folder / "photos" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                left, top = int(random.integers(640 - 200)), int(random.integers(427 - 150))
                photograph.crop((left, top, left + 200, top + 150)).save(place / f"{number:03d}.jpg", quality=90)
    (folder / "photos/train/temple/040.jpg").write_bytes((folder / "photos/val/temple/003.jpg").read_bytes())
    (folder / "photos/train/flower/040.jpg").write_bytes(b"<html>404 Not Found</html>")


def _first(folder: Path) -> None:
    """Write `photos/<split>/<class>/<number>.jpg` and, without splits, `flowers/<class>/<number>.jpg`: windows of
    scikit-learn's two photographs.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    places = [(f"photos/{split}", names) for split in ("train", "val", "test") for names in [("temple", "flower")]]
    for place, classes in [*places, ("flowers", ("dahlia", "roof"))]:
        for name in classes:
            photograph = Image.fromarray(load_sample_images().images[name in ("flower", "dahlia")])  # 640x427
            (folder / place / name).mkdir(parents=True)
            for number in range(40 if place.endswith("train") else 20):
                left, top = int(random.integers(640 - 200)), int(random.integers(427 - 150))
                window = photograph.crop((left, top, left + 200, top + 150))
                window.save(folder / place / name / f"{number:03d}.jpg", quality=90)


ACTIVITIES = ("eating", "interacting_with_phone", "reading_newspaper", "sitting_still", "writing")
TASKS = ("eat_drink", "read_write", "read_write", "rest", "read_write")  # that the activities belong to
ACTIONS = (  # in each of them, on which object, and where
    ("holding", "sandwich", "mouth"), ("holding", "phone", "lap"), ("holding", "newspaper", "lap"),
    ("resting", "nothing", "lap"), ("writing", "pen", "lap"),
)  # fmt: skip
LEVELS = {  # level -> the names of its target columns, and their values during each activity
    "midlevel": ("activity", ACTIVITIES),
    "tasklevel": ("activity", TASKS),
    "objectlevel": ("activity,object,location", [",".join(values) for values in ACTIONS]),
}
SUBJECTS, CHUNK, RATE = 6, 45, 15  # people; frames of a chunk; frames a second


def _drives(folder: Path) -> None:
    """Write Drive&Act's folders in small: six people, a video each, and annotations of three folds at three levels."""
    root = folder / "data/drive_and_act"
    order = [(activity, part) for part in range(3) for activity in range(len(ACTIVITIES))]
    for subject in range(1, SUBJECTS + 1):
        _write_video(root / f"kinect_color/vp{subject}/run1.kinect_color.mp4", subject, [place for place, _ in order])
    annotations = root / "iccv_activities_3s/activities_3s/kinect_color"
    annotations.mkdir(parents=True)
    for fold, level in itertools.product(range(3), LEVELS):
        columns, values = LEVELS[level]
        header = f"participant_id,file_id,annotation_id,frame_start,frame_end,{columns},chunk_id"
        test = {2 * fold + 1, 2 * fold + 2}
        val = {(2 * fold + 2) % SUBJECTS + 1}
        for split, people in (("train", set(range(1, SUBJECTS + 1)) - test - val), ("val", val), ("test", test)):
            lines = [
                f"{subject},vp{subject}/run1.kinect_color,{place},{place * CHUNK},{(place + 1) * CHUNK - 1},"
                f"{values[activity]},0"
                for subject in sorted(people)
                for place, (activity, _) in enumerate(order)
            ]
            path = annotations / f"{level}.chunks_90.split_{fold}.{split}.csv"
            path.write_text("\n".join([header, *lines]) + "\n")
    (folder / "featcache.toml").write_text(_toml_of("docs/guides/drive-and-act.md"))


def _toml_of(page: str) -> str:
    """Return the first recipe of a page, as a reader would copy it."""
    blocks: list[str] = re.findall(r"```toml\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    return blocks[0]


def _write_video(path: Path, subject: int, scenes: list[int]) -> None:
    """Write an MP4: each scene is a camera that moves over its own part of a photograph, noisier than a real one."""
    import av
    from PIL import Image, ImageEnhance
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random = np.random.default_rng(subject)
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        for scene, activity in enumerate(scenes):
            left, top = 90 * activity + int(random.integers(140)), int(random.integers(220))
            light = float(random.uniform(0.5, 1.4))
            for number in range(CHUNK):
                window = (min(left + number, 447), top, min(left + number, 447) + 192, top + 128)
                picture = ImageEnhance.Brightness(photographs[activity % 2].crop(window)).enhance(light)
                pixels = np.asarray(picture, dtype=np.float32) + random.normal(0, 30, (128, 192, 3))
                frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
                frame.pts, frame.time_base = scene * CHUNK + number, Fraction(1, RATE)
                file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _flip_a_bit(world: World) -> None:
    """Damage the first shard of the world's cache."""
    shard = min(world.folder.glob("cache/stores/*/shards/*.h5"))
    shard.chmod(0o644)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    shard.chmod(0o444)


WORLDS: dict[str, tuple[Callable[[Path], None], dict[str, str]]] = {
    "demo": (_nothing, {}),
    "digits": (_nothing, {"FEATCACHE_PIPELINE": "digits"}),
    "first": (_first, {}),
    "photos": (_photos, {}),
    "drives": (_drives, {}),
}
BEFORE: dict[str, Callable[[World], None]] = {"flip-a-bit": _flip_a_bit}

if __name__ == "__main__":
    main()
