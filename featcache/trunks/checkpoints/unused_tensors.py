"""Which tensors of a checkpoint were not used, where they may be weights that somebody meant.

They may be an averaged copy in a form that is not recognised (a list of tensors, names without dots), or a second
network. What an optimizer keeps, counters, and a classifier are none of these.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from featcache.text import counted
from featcache.trunks.checkpoints.weight_sets import WeightSet

_MAX_DEPTH = 8  # keys above a tensor
_NAMED = 4  # places in the note
_OPTIMIZER_KEYS = {
    "param_groups",
    "exp_avg",
    "exp_avg_sq",
    "momentum_buffer",
    "square_avg",
    "acc_delta",
    "max_exp_avg_sq",
}
_OPTIMIZER_STATES = {"optimizer", "optimizers", "optimizer_state", "optimizer_states", "optimizer_state_dict", "optim"}
_CLASSIFIERS = {"head", "heads", "classifier", "fc"}


def describe_unused(document: Any, used: Sequence[WeightSet]) -> str:
    """Return how many further tensors a checkpoint holds, and where, as part of a sentence; "" where there are none.

    Args:
        document: What the file holds.
        used: The sets of weights that were used: of equal ones, all.
    """
    known = {id(tensor) for weights in used for tensor in weights.tensors.values()}
    counts: dict[str, int] = {}
    for keys, tensor in _tensors(document, (), set()):
        if id(tensor) not in known and tensor.is_floating_point() and tensor.dim():
            counts[_place(keys)] = counts.get(_place(keys), 0) + 1
    if not counts:
        return ""
    shown = ", ".join(list(counts)[:_NAMED]) + (f" and {len(counts) - _NAMED:,} more" if len(counts) > _NAMED else "")
    total = sum(counts.values())
    return (
        f"{counted(total, 'further tensor')} under {shown} {'were' if total > 1 else 'was'} not used; where "
        f"the weights that are meant are there, save them in a file of their own, by the names of the network"
    )


def _tensors(value: Any, keys: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every tensor that may be a weight, with the keys that lead to it; one of a list has that of the list."""
    import torch

    if torch.is_tensor(value):
        yield keys, value
        return
    if not isinstance(value, dict | list | tuple) or id(value) in seen or len(keys) > _MAX_DEPTH:
        return
    seen.add(id(value))
    if not isinstance(value, dict):
        for item in value:
            yield from _tensors(item, keys, seen)
        return
    if value.keys() & _OPTIMIZER_KEYS:
        return
    for name, item in value.items():
        parts = str(name).split(".")
        if name not in _OPTIMIZER_STATES and not (torch.is_tensor(item) and _CLASSIFIERS & set(parts)):
            yield from _tensors(item, (*keys, str(name)), seen)


def _place(keys: tuple[str, ...]) -> str:
    """Return where a tensor stands, but not its name: `['ema']['shadow_params']`, `['state_dict']['model_ema.…']`."""
    if not keys:
        return "the list"
    first, _, rest = keys[-1].partition(".")
    last = f"{first}.…" if rest else keys[-1]
    return "".join(f"[{key!r}]" for key in (*keys[:-1], last))
