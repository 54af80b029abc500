"""Faults: the marker, the counts, and a small cache to be hurt.

FEATCACHE_FAULTS=all runs the long counts in full and, where all tests of all faults ran, writes docs/faults.md.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from featcache.files import StatLog
from featcache.store import FeatureStore
from tests.conftest import Nano, single_thread, write_images
from tests.faults import ledger
from tests.faults.catalogue import ELSEWHERE
from tests.faults.ledger import Case, Cases
from tests.faults.strange_files import Place
from tests.faults.world import World
from tests.faults.zygote import Zygote

FULL = os.environ.get("FEATCACHE_FAULTS") == "all"
ROOT = Path(__file__).parents[2]
CASES: Cases = {}

Saw = Callable[..., None]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests elsewhere that show a part of a fault are marked with its number too, and their outcome is kept."""
    numbers = {test: number for number, tests in ELSEWHERE.items() for test in tests}
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in numbers:
            item.add_marker(pytest.mark.fault(numbers[test]))
    config.pluginmanager.register(Outcomes())


def faults_of(item: pytest.Item) -> set[int]:
    return {number for mark in item.iter_markers("fault") for number in mark.args}


class Outcomes:
    """A plugin of its own: what a conftest says of a test's run is heard for the tests of its folder alone."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        outcome = yield
        report = outcome.get_result()
        if item.get_closest_marker("fault") is None:
            return
        case = case_of(item)
        case.seconds += report.duration
        if report.failed:
            case.state = "failed"
        elif report.skipped:
            case.state = "skipped"
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            case.reason = reason.removeprefix("Skipped: ")
        elif report.when == "call":
            case.state = "passed"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the page, where everything that it lists has run and passed; else say what is missing."""
    if not FULL:
        return
    cases = ledger.keep(ROOT / "build" / "faults", CASES)
    lacking = ledger.lacking(cases)
    if lacking:
        terminalreporter.write_line(f"docs/faults.md is not written; failed or not run: {', '.join(lacking)}", red=True)
        return
    versions = {name: version(name) for name in ("torch", "h5py", "numpy", "pillow")}
    page = ledger.page(cases, {"Python": platform.python_version(), **versions})
    (ROOT / "docs" / "faults.md").write_text(page, encoding="utf-8")
    terminalreporter.write_line("docs/faults.md is written")


def case_of(item: pytest.Item) -> Case:
    return CASES.setdefault(item.nodeid, Case(sorted(faults_of(item))))


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Saw:
    """Count what was injected and what was seen: `saw("ENOSPC at call N", "exit 5")`."""
    case = case_of(request.node)

    def count(injected: str, outcome: str, times: int = 1, *, fault: int | None = None) -> None:
        assert fault is None or fault in case.faults
        for number in [fault] if fault else case.faults:
            case.seen[number, injected, outcome] += times

    return count


@pytest.fixture
def steps(request: pytest.FixtureRequest) -> dict[str, int]:
    """How often a state machine took each step, for the page."""
    return case_of(request.node).steps


@pytest.fixture(scope="session")
def portion() -> Callable[[int, int], int]:
    """`portion(500, 25)`: the first where all is run, else the second."""
    return lambda full, some: full if FULL else some


one_thread = pytest.fixture(autouse=True, scope="package")(single_thread)


@pytest.fixture(scope="package")
def zygote(nano: Nano) -> Iterator[Zygote]:
    """A process that has imported everything; each of its forks is a run of its own that can be killed."""
    with Zygote() as process:
        yield process


@pytest.fixture(scope="package")
def small(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Five images, two of them in `val`, and what an undisturbed run makes of them: three shards of at most 2 rows."""
    here = tmp_path_factory.mktemp("small")
    write_images(here / "digits", {"train": {"0": 3, "1": 2}})
    return World.undisturbed(here / "digits", here / "cache", nano.weights)


@pytest.fixture
def hurt(small: World, tmp_path: Path) -> World:
    """A copy of the small cache that a test may damage."""
    shutil.copytree(small.cache, tmp_path / "hurt")
    return small.at(tmp_path / "hurt")


def reopened(world: World) -> FeatureStore:
    """The store as a process sees it that remembers nothing."""
    return FeatureStore.open(world.store, StatLog(world.cache / "nothing"))


@pytest.fixture(scope="module")
def place(nano) -> Iterator[Place]:
    """Where somebody without rights may read: not below pytest's own folder, which is root's alone."""
    with tempfile.TemporaryDirectory() as here:
        weights = shutil.copy(nano.weights, Path(here, "nano.pth"))
        os.utime(weights, ns=(10**18, 10**18))
        Path(here).chmod(0o755)
        yield Place(Path(here), Path(weights))


@pytest.fixture
def around(place, monkeypatch) -> Iterator[Path]:
    """An empty folder that a command is run in."""
    with tempfile.TemporaryDirectory(dir=place.here) as here:
        Path(here).chmod(0o777)
        monkeypatch.chdir(here)
        yield Path(here)
        os.chdir(place.here)


@pytest.fixture
def fresh(nano, tmp_path) -> World:
    """Six images of two digits, not yet extracted."""
    write_images(tmp_path / "digits", {"train": {"0": 3, "1": 3}})
    return World(tmp_path / "digits", tmp_path / "cache", nano.weights)


@pytest.fixture(scope="module")
def many(nano, tmp_path_factory) -> World:
    """200 images, shards of 4."""
    here = tmp_path_factory.mktemp("many")
    write_images(here / "digits", {"train": {str(digit): 20 for digit in range(10)}})
    return World.undisturbed(here / "digits", here / "cache", nano.weights, shard_rows=4)
