"""Where the curves of a training go beside the head that keeps them: Lightning's loggers, by name."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import MachineError, UsageError
from featcache.heads import EpochRow

# By name: the class in lightning.pytorch.loggers, the package that it needs, and its arguments for a folder, the name
# of a data set and that of a training. A training that goes on writes where it wrote before.
_LOGGERS: dict[str, tuple[str, str, Callable[[Path, str, str], dict[str, Any]]]] = {
    "csv": ("CSVLogger", "", lambda folder, data, run: {"save_dir": folder, "name": data, "version": run}),
    "tensorboard": (
        "TensorBoardLogger", "tensorboard", lambda folder, data, run: {"save_dir": folder, "name": data, "version": run}
    ),
    "wandb": (
        "WandbLogger", "wandb",
        lambda folder, data, run: {"save_dir": folder, "project": data, "name": run, "id": run, "resume": "allow"},
    ),
    "mlflow": (
        "MLFlowLogger", "mlflow",
        lambda folder, data, run: {"save_dir": str(folder / "mlruns"), "experiment_name": data, "run_name": run},
    ),
}  # fmt: skip
LOGGERS = tuple(_LOGGERS)


@dataclass(frozen=True, slots=True)
class LoggerChoice:
    """Which logger, and where its files go."""

    name: str
    folder: Path = Path("logs")

    def __post_init__(self) -> None:
        """Refuse what cannot be had.

        Raises:
            UsageError: no logger is called so.
            MachineError: its package is not installed.
        """
        if self.name not in _LOGGERS:
            error = UsageError(f"--logger: found {self.name!r}, expected one of {', '.join(LOGGERS)}")
            close = nearest_name(self.name, LOGGERS)
            raise error if close is None else error.correct("--logger", close)
        package = _LOGGERS[self.name][1]
        if package and importlib.util.find_spec(package) is None:
            raise MachineError(f"{package} is not installed: pip install {package}")

    def make(self, data_set: str, training: str) -> Any:
        """Return Lightning's logger.

        Args:
            data_set: Its name in the cache.
            training: What stands for the training, the same when it goes on.
        """
        from lightning.pytorch import loggers

        kind, _, arguments = _LOGGERS[self.name]
        return getattr(loggers, kind)(**arguments(self.folder, data_set, training))


def figures_of(row: EpochRow) -> dict[str, float]:
    """Return an epoch's scores by name: of classes accuracy and macro_recall, 0 to 1, else the targets' own metrics.

    The loss is there always, and what is not a number never.

    Args:
        row: The epoch.
    """
    splits = {"train": row.train, "val": row.val}
    figures = {
        f"{split}_{name}": scores.figure(name)
        for split, scores in splits.items()
        if scores is not None
        for name in (*scores.metrics, "accuracy", "macro_recall", "loss")
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}
