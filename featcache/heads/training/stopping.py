"""What one head does with the score of an epoch: slow down on a plateau, stop when it no longer gets better."""

from featcache.heads import HeadConfig, Scores, merit

FACTOR, THRESHOLD = 0.1, 1e-4  # torch's ReduceLROnPlateau


class Course:
    """One head's way through its epochs. The schedules that need no score are `HeadConfig.lr_at`."""

    def __init__(self, config: HeadConfig, select: str) -> None:
        self.config, self.select = config, select
        self.pace = 1.0  # a factor of the learning rate
        self.best_epoch: int | None = None  # of a head with patience
        self.stopped = False
        self._best = (float("-inf"), float("-inf"))
        self._lowest, self._since_lower = float("inf"), 0

    def after(self, epoch: int, train: Scores, val: Scores | None) -> bool:
        """Take in an epoch's scores; whether this is the head's best epoch so far, by the metric that selects."""
        if self.stopped:
            return False
        if self.config.schedule == "plateau":
            self._plateau((val or train).loss)
        if self.config.patience is None or val is None:
            return False
        if merit(val, self.select) > self._best:
            self._best, self.best_epoch = merit(val, self.select), epoch
            return True
        if epoch - (self.best_epoch or 0) >= self.config.patience:
            self.stop()
        return False

    def stop(self) -> None:
        """No further step changes this head."""
        self.stopped, self.pace = True, 0.0

    def _plateau(self, loss: float) -> None:
        if loss < self._lowest * (1 - THRESHOLD):
            self._lowest, self._since_lower = loss, 0
            return
        self._since_lower += 1
        if self._since_lower > self.config.plateau_epochs:
            self.pace, self._since_lower = self.pace * FACTOR, 0
