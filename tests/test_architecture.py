"""The packages of featcache: what they offer, which way they import, and how large a module is."""

import ast
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "featcache"
FILES = sorted(ROOT.rglob("*.py"))
PACKAGES = sorted(file.parent for file in FILES if file.name == "__init__.py")
OFFERING = [package for package in PACKAGES if (package / "__init__.pyi").exists()]


def dotted(path: Path) -> str:
    """Return the dotted name of a package's folder or of a module's file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def offered(package: Path) -> list[str]:
    """Return the names that a package's stub offers, in its order; of one without a stub, its `__all__`."""
    stub = package / "__init__.pyi"
    if not stub.exists():
        return list(getattr(import_module(dotted(package)), "__all__", []))
    tree = ast.parse(stub.read_text())
    return [name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]


@cache
def imports(path: Path) -> list[tuple[int, str, str]]:
    """Return (line, module, name) of every `from featcache... import name` of a file."""
    return [
        (node.lineno, str(node.module), name.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "featcache"
        for name in node.names
    ]


def problem_of(path: Path, module: str, name: str) -> str:
    """Return what is wrong with `from module import name` in the file at `path`, "" where nothing is."""
    packages = {dotted(package): package for package in PACKAGES}
    own = dotted(path.parent)
    if module not in packages:  # a module: of the own package, or loose at the top
        inside = module.rpartition(".")[0]
        return "" if inside in (own, "featcache") else f"{module} is inside another package"
    modules = [file.stem for file in packages[module].iterdir()] if module in (own, "featcache") else []
    return "" if name in (*offered(packages[module]), *modules) else f"{module} does not offer {name}"


def test_no_import_reaches_into_another_package() -> None:
    """A module imports another package's names from the package, never from a module inside it."""
    found = [(path, line, problem_of(path, module, name)) for path in FILES for line, module, name in imports(path)]
    assert [f"{path.relative_to(ROOT)}:{line}: {problem}" for path, line, problem in found if problem] == []


@pytest.mark.parametrize("package", OFFERING, ids=dotted)
def test_what_a_package_offers_is_there_once_and_is_no_module(package: Path) -> None:
    """Every offered name can be imported, stands in one line, and is the name of no module beside it."""
    names = offered(package)
    assert sorted(set(names)) == sorted(names)
    assert {path.stem for path in package.iterdir()} & set(names) <= {"_version"}
    module = import_module(dotted(package))
    for name in names:
        assert not isinstance(getattr(module, name), type(sys)), name


@pytest.mark.parametrize("package", OFFERING, ids=dotted)
def test_a_package_offers_only_what_somebody_else_uses(package: Path) -> None:
    """A name that no other package, test, script or page of the docs imports is no longer offered."""
    if package == ROOT:
        return
    own = dotted(package)
    others = [
        path
        for folder in ("featcache", "tests", "bench", "docs")
        for path in (ROOT.parent / folder).rglob("*.py")
        if path.parent != package
    ]
    used = {name for path in others for _, module, name in imports(path) if module == own}
    public = {
        name.name
        for node in ast.parse((ROOT / "__init__.pyi").read_text()).body
        if isinstance(node, ast.ImportFrom) and f"featcache.{node.module}" == own
        for name in node.names
    }
    assert set(offered(package)) - used - public == set()


def test_the_top_level_has_at_most_seven_loose_modules() -> None:
    """Beside the packages lie a few modules, `__init__` and `__main__` among them."""
    assert len(list(ROOT.glob("*.py"))) <= 7


# What a command that needs no network may import: everything below heads, and what is kept of a head.
WITHOUT_TORCH = [
    "featcache.listing", "featcache.media", "featcache.loader", "featcache.store", "featcache.dataset",
    "featcache.features", "featcache.metrics", "featcache.recipe", "featcache.files", "featcache.evaluation",
    "featcache.heads.saved", "featcache.trunks.spec", "featcache.trunks.architectures", "featcache.trunks.weights_memo",
    "featcache.heads.linear", "featcache.heads.config", "featcache.extraction.summary",
]  # fmt: skip
_LOADS = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for inner in pkgutil.iter_modules(getattr(module, "__path__", []), name + "."):
        if inner.name not in ("featcache.heads.saved.skops",):
            importlib.import_module(inner.name)
print(*sorted({"torch", "torchvision", "sklearn", "matplotlib", "numba"} & set(sys.modules)))
"""


def test_stage_one_up_to_the_trunk_and_kept_heads_import_without_torch() -> None:
    """Listings, pixels, the store, features, metrics and kept heads are used without torch and scikit-learn."""
    done = subprocess.run([sys.executable, "-c", _LOADS, *WITHOUT_TORCH], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# Longer than 300 lines, with the reason.
LONG: dict[str, str] = {}


def test_a_module_has_at_most_300_lines() -> None:
    """A module is at most 300 lines long, or its reason stands in LONG."""
    longer = {str(path.relative_to(ROOT)) for path in FILES if len(path.read_text().splitlines()) > 300}
    assert longer == set(LONG)
