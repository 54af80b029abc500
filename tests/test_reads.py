"""Every file that somebody else may have put there is opened by `files`: a pipe in its place is never waited for."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "featcache"

# Calls that open a file by its path. A pipe would block them for ever; a link would lead them out of a cache.
BY_METHOD = {"read_bytes", "read_text"}
BY_FUNCTION = {
    "open", "io.open", "os.open", "np.load", "np.loadtxt", "np.genfromtxt", "np.fromfile", "np.memmap", "h5py.File",
    "zipfile.ZipFile", "tarfile.open", "torch.load", "load_file", "safe_open", "safetensors.safe_open", "joblib.load",
    "pickle.load", "pd.read_csv", "pq.read_table",
}  # fmt: skip

# By module, the calls that may stand there, and why.
ALLOWED = {
    "containers/tar_file.py": ({"tarfile.open"}, "of a file that is open already"),
    "cli/app.py": ({"os.open"}, "the null device"),
    "files/safe_read.py": ({"os.open"}, "the one safe reader"),
    "files/publishing.py": ({"os.open"}, "writing, with the same refusals; and folders"),
    "finetuning/rank_process.py": ({"os.open"}, "the null device"),
    "heads/preparation.py": ({".open"}, "a module of the package itself, which is locked and not read"),
    "heads/saved/skops/own_models.py": ({"os.open"}, "the user's own list, only ever added to"),
    "heads/saved/skops/description.py": ({"zipfile.ZipFile"}, "of bytes in memory"),
    "loader/pool.py": ({"np.memmap"}, "memory that is shared with our own workers, without a name"),
    "machine.py": ({"read_text"}, "/proc and /sys"),
    "trunks/hardware.py": ({"read_text"}, "/proc/cpuinfo"),
    "report/page/page.py": ({"read_text"}, "the package's own templates"),
    "store/hdf5.py": ({"h5py.File", "np.memmap"}, "of memory, or of a file that is open already"),
    "store/plain_hdf5.py": ({"h5py.File"}, "a new file"),
    "store/shard.py": ({"np.memmap"}, "of a file that is open already"),
    "trunks/checkpoints/reading.py": (
        {"zipfile.ZipFile", "tarfile.open", "load_file", "torch.load", ".open"}, "weights, once they were opened safely"
    ),
}  # fmt: skip


def calls_that_open(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every call that opens a file by its path; a path's own method is `.open`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in BY_FUNCTION:
            yield node.lineno, name
        elif method in BY_METHOD:
            yield node.lineno, method
        elif method == "open":
            mode = node.args[0] if node.args else ast.Constant("r")
            if isinstance(mode, ast.Constant) and "r" in str(mode.value):
                yield node.lineno, ".open"


def test_a_file_of_a_cache_is_opened_by_the_safe_reader_alone() -> None:
    """Whoever reads with `read_bytes`, `open` or a library's reader of paths stands in ALLOWED, with a reason."""
    others = []
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        allowed, _ = ALLOWED.get(module, (set(), ""))
        calls = calls_that_open(ast.parse(path.read_text()))
        others += [f"{module}:{line}: {name}" for line, name in calls if name not in allowed]
    assert others == []


def test_the_scan_sees_what_it_looks_for() -> None:
    """Each way to open a file by its path is recognised; a store that is opened, and a file that is open, are not."""
    code = "p.read_bytes(); (a / b).read_text('utf-8'); open(p); p.open('rb'); p.open(); os.open(p, 0); np.load(p)"
    names = ["read_bytes", "read_text", "open", ".open", ".open", "os.open", "np.load"]
    assert [name for _, name in calls_that_open(ast.parse(code))] == names
    harmless = "FeatureStore.open(root, known); os.fdopen(handle, 'rb'); open_file(p); p.open('xb'); store.load(x)"
    assert list(calls_that_open(ast.parse(harmless))) == []


def test_the_list_names_only_modules_that_open_files() -> None:
    """Each module of ALLOWED is there and makes each of its calls, so that no exception outlives its reason."""
    for module, (names, _) in ALLOWED.items():
        made = {name for _, name in calls_that_open(ast.parse((ROOT / module).read_text()))}
        assert names <= made, module
