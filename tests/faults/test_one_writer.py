"""Only publishing.py writes to a cache: by what the code says, and by what the interpreter sees it do."""

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import featcache

PACKAGE = Path(featcache.__file__).parent
ROOT = Path(__file__).parents[2]

# What writes elsewhere than to a cache, and why it may.
ELSEWHERE = {
    "cli": "standard output and error where nobody takes them",
    "report": "the files that --csv, --png, --html, --predictions name",
    "features/exporting.py": "the file that `export --to` names",
    "loader": "shared memory: a file without a name",
}
WRITING_METHODS = {
    "write_bytes", "write_text", "unlink", "mkdir", "rmdir", "rename", "touch", "symlink_to", "hardlink_to", "chmod",
    "savez", "savez_compressed", "tofile",
}  # fmt: skip
WRITING_OS = {
    "write", "pwrite", "writev", "rename", "replace", "renames", "unlink", "remove", "rmdir", "mkdir", "makedirs",
    "truncate", "ftruncate", "chmod", "fchmod", "link", "symlink", "utime", "removedirs", "sendfile", "mkfifo",
}  # fmt: skip
FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}


def writes(call: ast.Call) -> str:
    """What in this call could change a file; "" where nothing could."""
    name = ast.unparse(call.func)
    owner, _, last = name.rpartition(".")
    words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if owner == "os" and last in WRITING_OS:
        return name
    if owner in ("shutil", "tempfile"):
        return name
    if name == "os.open" and FLAGS & {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}:
        return f"{name} for writing"
    if (name in ("open", "os.fdopen") or last == "open") and any(set(word) & set("wax+") for word in modes(call)):
        return f"{name} for writing"
    if last in WRITING_METHODS and owner != "os" and owner != "publishing":
        return name
    if name == "np.memmap" and not {"r", "c"} & set(words):
        return f"{name} for writing"
    if last == "File" and "h5py" in owner and not {"r", "core", "fileobj"} & set(words):
        return f"{name} for writing"
    return ""


def modes(call: ast.Call) -> list[str]:
    """Mode strings among the arguments of an `open`."""
    place = 1 if isinstance(call.func, ast.Name) or ast.unparse(call.func) == "os.fdopen" else 0
    found = [*call.args[place : place + 1], *(word.value for word in call.keywords if word.arg == "mode")]
    return [node.value for node in found if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.fault(21)
def test_no_other_module_holds_code_that_writes(saw):
    """Every call in featcache that could change a file stands in publishing.py, or in a part that writes no cache."""
    found, looked_at = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0]
        if (
            path.name == "publishing.py"
            or part in ELSEWHERE
            or str(path.relative_to(PACKAGE)) in ELSEWHERE
            or part.startswith("cli")
        ):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            looked_at += isinstance(node, ast.Call)
            if isinstance(node, ast.Call) and writes(node):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {writes(node)}")
    beside = (
        "store/plain_hdf5.py",  # the writer of export's file
        "heads/saved/skops/own_models.py",  # a user's own list, outside of every cache
        "finetuning/several_devices.py",  # a folder of the system's temporary ones, where processes meet
        "finetuning/rank_process.py",  # the null device
        "__main__.py",  # stderr, where nothing is left to import more with
    )
    known = [line for line in found if line.startswith(beside)]
    assert [line for line in found if line not in known] == []
    assert looked_at > 1000
    saw(
        "calls in featcache that could change a file, searched outside publishing.py", "none touches a cache", looked_at
    )


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "code",
    [
        "path.open('r+b')", "open(path, 'ab')", "os.open(path, os.O_RDWR)", "h5py.File(path, 'r+')", "h5py.File(path)",
        "path.write_bytes(b'')", "np.memmap(path, np.uint8)", "np.memmap(path, np.uint8, 'r+')", "os.truncate(path, 0)",
        "path.chmod(0o644)", "os.replace(a, b)", "os.fdopen(handle, 'wb')", "shutil.rmtree(path)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(code, saw):
    """Each way to open a published shard for writing would be found."""
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)][:1]
    assert writes(call)
    saw("code that opens a file for writing, planted", "found")


WATCHED = """
import os, sys
cache, images, weights = sys.argv[1:]
seen = set()

def watch(event, args):
    if event == "open":
        path, mode, flags = args
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if not isinstance(flags, int) or not flags & writing:
            return
    elif event in {"os." + name for name in "rename remove mkdir rmdir truncate chmod link symlink".split()}:
        path = args[0]
    else:
        return
    if isinstance(path, bytes):
        path = path.decode()
    if not isinstance(path, str) or not path.startswith(cache):
        return
    frame = sys._getframe(1)
    names = []
    while frame is not None:
        names.append(frame.f_code.co_filename)
        frame = frame.f_back
    ours = next(name for name in names if "/featcache/" in name or name.startswith("<"))
    lock = any("/filelock/" in name for name in names)  # .lock, and the folder that it stands in
    seen.add("lock" if lock else ours.rsplit("/featcache/")[-1])

import featcache
import torch
torch.set_num_threads(1)
sys.addaudithook(watch)
settings = featcache.Settings(device="cpu", workers=1, batch_size=2, shard_rows=2)
given = dict(data=images, cache=cache)
featcache.extract(None, **given, arch="vit_nano_16", weights=weights, precision="fp32", settings=settings)
featcache.load("train", **given)
featcache.fit_head(0.1, **given, epochs=2, check_seconds=None, device="cpu")
featcache.verify(cache=cache)
featcache.gc(cache=cache, apply=True)
import pathlib
shard = next(pathlib.Path(cache).rglob("shards/*.h5"))
watch = lambda *_: None
sys.stdout.write("before repair " + " ".join(sorted(seen)) + chr(10))
shard.chmod(0o644)
shard.write_bytes(b"damaged")
seen.clear()
featcache.repair(cache=cache)
sys.stdout.write("repair " + " ".join(sorted(seen)) + chr(10))
"""


@pytest.mark.fault(21)
def test_no_other_module_is_seen_writing(small, tmp_path, saw):
    """The interpreter's own audit of extract, load, fit-head, verify, gc and repair: every file of the cache that is
    opened for writing, renamed or removed, is so by publishing.py (locks by filelock).
    """
    words = [str(tmp_path / "cache"), str(small.images), str(small.weights)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WATCHED, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert set(line.removeprefix("before repair").removeprefix("repair").split()) == {"lock", "files/publishing.py"}
        saw("changes of a cache as the interpreter's audit sees them", "all by publishing.py, and filelock's lock")
    assert done.stdout.count("\n") == 2


@pytest.mark.fault(21)
def test_published_files_are_read_only(small, saw):
    """Shards and listings are 0444."""
    files = [*small.shards, *small.cache.rglob("listings/**/*.h5")]
    assert len(files) == 4
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        saw("the mode of a published shard or listing", "0444")
