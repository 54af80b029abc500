"""What one head does with the score of an epoch: slow down on a plateau, stop when it no longer gets better."""

from featcache.heads import HeadConfig, Scores, merit

PLATEAU_FACTOR, PLATEAU_THRESHOLD = 0.1, 1e-4  # torch's ReduceLROnPlateau


class HeadProgress:
    """The progress of one head from epoch to epoch. The schedules that need no score are `HeadConfig.lr_at`.

    Attributes:
        lr_factor: what the schedule's learning rate is multiplied by: 1, less on a plateau, 0 once the head stopped.
        best_epoch: the best epoch so far of a head with patience, from 1; None for a head without.
        stopped: whether further steps leave the head as it is.
    """

    def __init__(self, config: HeadConfig, select: str) -> None:
        """Begin before the first epoch.

        Args:
            config: The head's settings.
            select: The metric on val that chooses its best epoch.
        """
        self.config, self.select = config, select
        self.lr_factor = 1.0
        self.best_epoch: int | None = None
        self.stopped = False
        self._best_merit = (float("-inf"), float("-inf"))
        self._lowest_loss, self._epochs_since_lowest = float("inf"), 0

    def record_epoch(self, epoch: int, train: Scores, val: Scores | None) -> bool:
        """Return whether an epoch is the head's best so far, by the metric that selects; what follows is taken in.

        Args:
            epoch: From 1.
            train: Its scores on train.
            val: Its scores on val; None where there is no such split.
        """
        if self.stopped:
            return False
        if self.config.schedule == "plateau":
            self._watch_for_plateau((val or train).loss)
        if self.config.patience is None or val is None:
            return False
        if merit(val, self.select) > self._best_merit:
            self._best_merit, self.best_epoch = merit(val, self.select), epoch
            return True
        if epoch - (self.best_epoch or 0) >= self.config.patience:
            self.stop()
        return False

    def stop(self) -> None:
        """Have no further step change this head."""
        self.stopped, self.lr_factor = True, 0.0

    def _watch_for_plateau(self, loss: float) -> None:
        """Lower the learning rate after too many epochs without a lower loss."""
        if loss < self._lowest_loss * (1 - PLATEAU_THRESHOLD):
            self._lowest_loss, self._epochs_since_lowest = loss, 0
            return
        self._epochs_since_lowest += 1
        if self._epochs_since_lowest > self.config.plateau_epochs:
            self.lr_factor, self._epochs_since_lowest = self.lr_factor * PLATEAU_FACTOR, 0
