"""Files that somebody else may have put there are opened in one place each: a file of a cache, a file of a user."""

import ast
import os
import socket
from pathlib import Path

import pytest

import featcache
from featcache.files.safe_read import describe_target, hash_file, open_file, read_file

PACKAGE = Path(featcache.__file__).parent

# Calls that open, or read, a file by its name; and where one may stand beside safe_read.py, with the reason.
OPENERS = {
    "open", "os.open", "read_bytes", "read_text", "np.load", "np.fromfile", "np.genfromtxt", "np.loadtxt", "np.memmap",
    "h5py.File", "safe_open", "load_file", "torch.load", "ZipFile", "zipfile.ZipFile", "Image.open", "av.open",
    "tomllib.load", "json.load", "pickle.load", "FileLock", "SoftFileLock", "pq.ParquetFile", "pq.read_table",
    "JournalFileBackend", "mmap.mmap", "shutil.copy", "shutil.copyfile",
}  # fmt: skip
OURS = {"FeatureStore.open", "_Side.open"}  # which open no file themselves
ALLOWED = {
    "files/safe_read.py": "the one place",
    "files/publishing.py": "writing: it opens scratch files of its own, and what it adds to with the same checks",
    "files/lock.py": "filelock opens the lock; what stands there was looked at before",
    "store/shard.py": "memory-maps a descriptor that open_shard gave",
    "store/hdf5.py": "libhdf5 on bytes in memory, or on a descriptor that was opened and hashed",
    "store/plain_hdf5.py": "writes the file of `export --to`, under a scratch name",
    "files/direct_io.py": "anonymous memory",
    "heads/optuna_study.py": "Optuna opens its study; the file was opened and read line by line before",
    "features/exporting.py": "writes the file of `export --to`, under a scratch name",
    "report/destination.py": "writes a file of a report, under a scratch name",
    "report/page/page.py": "the package's own templates",
    "containers/lmdb_file.py": "lmdb maps the file; it was opened, and looked at, before",
    "containers/table_file.py": "pyarrow on a file that open_file gave, or on a map of it",
    "containers/tar_file.py": "tarfile on a file that open_file gave",
    "listing/sheet.py": "pyarrow on a file that open_file gave",
    "media/images.py": "Pillow on bytes in memory",
    "media/thumbnails.py": "Pillow on an open file",
    "media/video.py": "PyAV on an open file",
    "trunks/checkpoints/reading.py": "torch, safetensors and archives; it was opened, and looked at, before",
    "heads/saved/skops/description.py": "an archive on bytes in memory",
    "heads/saved/skops/own_models.py": "appends to a user's own list, outside of every cache, with the same checks",
    "trunks/hardware.py": "/proc",
    "machine.py": "/proc and /sys",
    "heads/preparation.py": "a module of the package itself, which is locked and not read",
    "loader": "shared memory: a file without a name",
    "extraction": "shared memory: a file without a name",
    "finetuning/shared_images.py": "shared memory: a file without a name",
    "finetuning/rank_process.py": "/dev/null, for what a library prints",
    "cli/app.py": "/dev/null, where nobody takes the output",
}


def openings(path: Path) -> list[str]:
    """Calls in a module that open a file by its name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        if name in OURS:
            continue
        if name in OPENERS or last in {"read_bytes", "read_text", "open"}:
            found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {name}")
    return found


def test_no_other_module_opens_a_file():
    """Every call that opens a file by its name stands in safe_read.py, or in a module of the list above."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name not in ALLOWED and name.partition("/")[0] not in ALLOWED:
            found += openings(path)
    assert found == []


def test_the_list_names_no_module_too_many():
    """Each module of the list opens something."""
    for name in ALLOWED:
        path = PACKAGE / name
        assert any(openings(one) for one in (path.rglob("*.py") if path.is_dir() else [path])), name


@pytest.fixture
def strange(tmp_path):
    """One of each kind of file that is no file, by name; and a good one, a link to it, an endless one."""
    (tmp_path / "good").write_bytes(b"good")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket")[-100:] if len(str(tmp_path)) < 90 else _short(tmp_path / "socket"))
        yield tmp_path


def _short(path: Path) -> str:
    here = Path.cwd()
    return os.path.relpath(path, here)


@pytest.mark.parametrize("follow_links", [True, False])
@pytest.mark.parametrize(
    ("name", "said"),
    [("folder", "a folder"), ("pipe", "a pipe"), ("socket", "a socket"), ("zero", "a (device|symbolic link)"),
     ("loop", "(levels of symbolic links|a symbolic link)")],
)  # fmt: skip
@pytest.mark.parametrize("read", [
    lambda path, follow: os.close(open_file(path, follow_links=follow)),
    lambda path, follow: read_file(path, 100, follow_links=follow),
    lambda path, follow: hash_file(path, follow_links=follow),
])  # fmt: skip
def test_what_is_no_file_is_refused_by_its_name(strange, read, name, said, follow_links):
    """A folder, a pipe, a socket, a device, a loop of links: refused at once, and the error says which it is."""
    with pytest.raises(OSError, match=said):
        read(strange / name, follow_links)


def test_a_link_is_followed_outside_a_cache_alone(strange):
    """A user's own file may be a link; a file of a cache may not."""
    assert read_file(strange / "link", 100, follow_links=True) == b"good"
    with pytest.raises(OSError, match="a symbolic link, which is not followed here"):
        read_file(strange / "link", 100, follow_links=False)


def test_a_name_that_no_file_has_is_refused(strange):
    """A NUL in a name that came from a document is an OSError, as a missing file is."""
    with pytest.raises(OSError, match="no file can have this name"):
        open_file(f"{strange}/a\0b", follow_links=False)


def test_no_descriptor_is_left_open(strange):
    """What is refused is closed."""
    before = len(os.listdir("/proc/self/fd"))
    for name in ("folder", "pipe", "zero"):
        for follow_links in (True, False):
            with pytest.raises(OSError, match=r".+"):
                open_file(strange / name, follow_links=follow_links)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_not_written_in_the_place_of_a_pipe_or_a_device(strange):
    """A target that is a pipe, a device or a folder is named; a file, a link to one, and nothing are fine."""
    assert [describe_target(strange / name) for name in ("good", "link", "none")] == ["", "", ""]
    assert describe_target(strange / "pipe") == "is a pipe, expected a file or nothing"
    assert describe_target("/dev/null") == "is a device, expected a file or nothing"
    assert "folder" in describe_target(strange / "folder")
