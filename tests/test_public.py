"""What `import featcache` offers, and what it costs."""

import subprocess
import sys
from types import FunctionType

import pytest

import featcache
from featcache.errors import CacheError, DataError, FeatcacheError, MachineError, UsageError


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_featcache_is_light():
    """Neither torch nor NumPy, nor any other package that is not Python's own."""
    heavy = ("torch", "torchvision", "numpy", "h5py", "sklearn", "PIL", "pydantic", "typer", "rich", "filelock")
    code = f"import sys, featcache; dir(featcache); print([name for name in {heavy} if name in sys.modules])"
    assert python(code) == "[]"


def test_load_is_light():
    """Reaching for `load`, `Features` and the errors imports no torch; nor does reaching for every other name."""
    assert python("import sys, featcache; featcache.load; featcache.Features; print('torch' in sys.modules)") == "False"
    assert python("import sys; from featcache import *; print('torch' in sys.modules)") == "False"


def test_every_public_name_is_there_and_nothing_else_is():
    """`__all__`, `dir` and what can be reached agree; a name that is not offered is an AttributeError."""
    assert dir(featcache) == sorted(featcache.__all__)
    for name in featcache.__all__:
        assert getattr(featcache, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'extrakt'"):
        featcache.extrakt  # noqa: B018


@pytest.mark.parametrize(
    ("old", "new"), [("Folds", "FoldsEvaluation"), ("Paired", "PairedEvaluation"), ("difference", "evaluate_pair")]
)
def test_a_public_name_of_before_still_works(old: str, new: str) -> None:
    """A name that was public under another word gives what it always gave, and says what it is called now."""
    with pytest.warns(DeprecationWarning, match=f"featcache.{old} is called featcache.{new} now"):
        assert getattr(featcache, old) is getattr(featcache, new)


def test_all_that_a_command_does_is_offered():
    """What a command imports to do its work, and what that returns, can be reached as `featcache.NAME`."""
    work = (
        "Comparison Contents Evaluation Exported Fit Fitted FoldsEvaluation NearDuplicates PairedEvaluation "
        "Predictions Search Summary Timeline compare describe evaluate evaluate_folds evaluate_pair export "
        "export_model extract fit fit_head gc info near_duplicates predict repair save_predictions save_report "
        "search timeline verify"
    )
    assert set(work.split()) <= set(featcache.__all__)
    assert all(getattr(featcache, name).__doc__ for name in work.split())


CALLED = ("evaluate", "extract", "fit_head", "info", "load", "verify")


def test_functions_stay_functions_whatever_is_imported():
    """Importing every submodule hides no public name behind a module."""
    code = (
        "import importlib, pkgutil, featcache\n"
        "for found in pkgutil.walk_packages(featcache.__path__, 'featcache.'):\n"
        "    found.name.endswith('__main__') or importlib.import_module(found.name)\n"
        f"print([type(getattr(featcache, name)).__name__ for name in {CALLED}])"
    )
    assert python(code) == str(["function"] * len(CALLED))
    assert all(isinstance(getattr(featcache, name), FunctionType) for name in CALLED)


@pytest.mark.parametrize(
    ("error", "code"), [(FeatcacheError, 1), (UsageError, 2), (CacheError, 3), (DataError, 4), (MachineError, 5)]
)
def test_errors_have_their_exit_codes(error, code):
    """The classes that scripts rely on; all are FeatcacheErrors, and the public names are the same classes."""
    assert error.exit_code == code
    assert issubclass(error, FeatcacheError)
    assert getattr(featcache, error.__name__) is error


def test_the_version_is_a_version():
    """`featcache.__version__` is what the distribution is built with."""
    assert [part.isdecimal() for part in featcache.__version__.split(".")] == [True] * 3
