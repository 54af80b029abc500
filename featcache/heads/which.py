"""Which head is meant: the newest run's best, or one by the start of its name."""

from dataclasses import dataclass
from pathlib import Path

from featcache.asked import Asked
from featcache.errors import CacheError
from featcache.heads import runs, saved
from featcache.heads.runs import Run
from featcache.store import FeatureStore


@dataclass(frozen=True, slots=True, eq=False)
class Which:
    """A head that is still on disk."""

    folder: Path
    store: FeatureStore  # that it was trained on
    run: Run  # the newest fit-head that made it

    @property
    def selected_by(self) -> str:
        """What chose this head among those of its sweep; "" where nothing did."""
        return self.run.selected_by if self.run.best == self.folder.name else ""


def which_head(asked: Asked, head: str | None) -> Which:
    """The head that is meant.

    Raises:
        CacheError: there is none, or several fit.
    """
    data_set, variant, folder = asked.recipe.name, asked.variant, asked.folder
    every = sorted(
        ((run, found) for found in asked.stores() for run in runs.read(found, data_set, variant, newest=head is None)),
        key=lambda pair: pair[0].at,
        reverse=True,
    )
    if not every:
        raise CacheError(f"{folder}: no head of {data_set} in this cache; run `featcache fit-head` first")
    if head is None:
        run, found = every[0]
        if run.best is None:
            raise CacheError(
                f"{folder}: every head of the newest fit-head of {data_set} diverged; run it again with a lower "
                f"--lr, or name an older head"
            )
        return Which(saved.folder_of(found, data_set, variant) / run.best, found, run)
    names = {name: (run, found) for run, found in reversed(every) for name in run.heads}
    fitting = [head] if head in names else [name for name in names if name.startswith(head)]
    if len(fitting) != 1:
        what = f"{len(fitting)} heads start with" if fitting else "no head is called"
        raise CacheError(f"{folder}: {what} {head!r}; there are: {', '.join(fitting or names)}")
    run, found = names[fitting[0]]
    return Which(saved.folder_of(found, data_set, variant) / fitting[0], found, run)
