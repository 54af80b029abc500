"""The scores of heads once they are trained: computed in NumPy as a loaded head computes them, so the same numbers."""

from dataclasses import replace

from featcache.features import Features, Streamed
from featcache.heads import (
    Scores,
    choose_kept,
    compute_outputs,
    rows_together,
    score_blocks,
    score_outputs,
    score_split,
    score_targets,
    truth_of,
)
from featcache.heads.modules import TrainedHead


def with_final_scores(head: TrainedHead, train: Features | Streamed, val: Features | None) -> TrainedHead:
    """Return the head with its scores, on train and, where there is one, on val."""
    head = replace(head, widths=train.widths)
    if isinstance(train, Features) and train.targets is not None:
        return _with_final_target_scores(head, train, val)
    together = rows_together(head)
    if isinstance(train, Streamed):
        blocks = ((x, train.y[rows]) for x, rows in train.blocks())
        on_train = score_blocks(head.logits, blocks, len(train.classes), together=together)
    else:
        on_train = score_split(head.logits, train, together=together)
    if val is None:
        return replace(head, train=on_train)
    return _with_val_scores(replace(head, train=on_train), score_split(head.logits, val, together=together))


def _with_final_target_scores(head: TrainedHead, train: Features, val: Features | None) -> TrainedHead:
    """Return a head on several labels or numbers with its scores, and the thresholds that are chosen on val."""
    if val is None:
        return replace(head, train=score_targets(head.config, head.targets, head.logits, train))
    outputs, truth = compute_outputs(head.logits, val.x, head.classes), truth_of(val)
    head = replace(head, targets=choose_kept(head.config, head.targets, outputs, truth))
    return _with_val_scores(
        replace(head, train=score_targets(head.config, head.targets, head.logits, train)),
        score_outputs(head.config, head.targets, outputs, truth),
    )


def _with_val_scores(head: TrainedHead, on_val: Scores) -> TrainedHead:
    """Return the head with its scores on val, which the row of its history has too whose weights these are."""
    history = list(head.history)
    kept = (head.best_epoch or len(history)) - 1
    history[kept] = replace(history[kept], val=on_val)
    return replace(head, val=on_val, history=tuple(history))
