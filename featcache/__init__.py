"""featcache: run a frozen vision trunk over your images once; every classifier experiment after that takes seconds.

The names below are loaded when they are first used: `import featcache` imports neither torch nor NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "CacheError",
    "Comparison",
    "Contents",
    "DataError",
    "Evaluation",
    "Exported",
    "FeatcacheError",
    "Features",
    "Fit",
    "Fitted",
    "Folds",
    "MachineError",
    "NearDuplicates",
    "Paired",
    "Predictions",
    "Search",
    "Settings",
    "Streamed",
    "Summary",
    "Timeline",
    "UsageError",
    "__version__",
    "compare",
    "describe",
    "difference",
    "evaluate",
    "evaluate_folds",
    "export",
    "export_model",
    "extract",
    "fit",
    "fit_head",
    "gc",
    "info",
    "load",
    "near_duplicates",
    "predict",
    "repair",
    "save_predictions",
    "save_report",
    "search",
    "stream",
    "timeline",
    "verify",
]

if TYPE_CHECKING:
    from featcache.contents import Contents, describe
    from featcache.errors import CacheError, DataError, FeatcacheError, MachineError, UsageError
    from featcache.extraction import Settings, Summary, extract
    from featcache.features import Features, load
    from featcache.heads.classifiers.fit import Fitted, fit
    from featcache.heads.fit import Fit, fit_head
    from featcache.heads.search import Search, search
    from featcache.inspect import info
    from featcache.near import NearDuplicates, near_duplicates
    from featcache.plain import export
    from featcache.prediction import Exported, Predictions, Timeline, export_model, predict, timeline
    from featcache.report.compare import Comparison, compare
    from featcache.report.evaluate import evaluate
    from featcache.report.evaluation import Evaluation
    from featcache.report.files import save_predictions, save_report
    from featcache.report.paired import Folds, Paired, difference, evaluate_folds
    from featcache.streamed import Streamed, stream
    from featcache.upkeep.examine import verify
    from featcache.upkeep.mend import repair
    from featcache.upkeep.tidy import gc

_HOME = {
    "contents": ("Contents", "describe"),
    "errors": ("CacheError", "DataError", "FeatcacheError", "MachineError", "UsageError"),
    "extraction": ("Settings", "Summary", "extract"),
    "features": ("Features", "load"),
    "heads.classifiers.fit": ("Fitted", "fit"),
    "heads.fit": ("Fit", "fit_head"),
    "heads.search": ("Search", "search"),
    "inspect": ("info",),
    "near": ("NearDuplicates", "near_duplicates"),
    "report.compare": ("Comparison", "compare"),
    "report.evaluate": ("evaluate",),
    "report.evaluation": ("Evaluation",),
    "report.files": ("save_predictions", "save_report"),
    "report.paired": ("Folds", "Paired", "difference", "evaluate_folds"),
    "plain": ("export",),
    "prediction": ("Exported", "Predictions", "Timeline", "export_model", "predict", "timeline"),
    "upkeep.examine": ("verify",),
    "upkeep.mend": ("repair",),
    "upkeep.tidy": ("gc",),
    "streamed": ("Streamed", "stream"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"featcache.{module}"), name)
    raise AttributeError(f"module 'featcache' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
