"""Which tensors of a checkpoint were not used, where they may be weights that somebody meant.

They may be an averaged copy in a form that is not recognised (a list of tensors, names without dots), or a second
network. What an optimizer keeps, counters, and a classifier are none of these.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from featcache.trunks.checkpoints import Weights

_DEEP = 8  # keys above a tensor
_NAMED = 4  # places in the note
_OPTIMIZERS = {"param_groups", "exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta", "max_exp_avg_sq"}
_NO_WEIGHTS = {"optimizer", "optimizers", "optimizer_state", "optimizer_states", "optimizer_state_dict", "optim"}
_CLASSIFIERS = {"head", "heads", "classifier", "fc"}


def note(document: Any, used: Sequence[Weights]) -> str:
    """How many further tensors a checkpoint holds, and where, as a sentence's part; "" where there are none.

    Args:
        document: What the file holds.
        used: The sets of weights that were used: of equal ones, all.
    """
    known = {id(tensor) for one in used for tensor in one.tensors.values()}
    counts: dict[str, int] = {}
    for keys, tensor in _tensors(document, (), set()):
        if id(tensor) not in known and tensor.is_floating_point() and tensor.dim():
            counts[_place(keys)] = counts.get(_place(keys), 0) + 1
    if not counts:
        return ""
    shown = ", ".join(list(counts)[:_NAMED]) + (f" and {len(counts) - _NAMED:,} more" if len(counts) > _NAMED else "")
    total = sum(counts.values())
    return (
        f"{total:,} further tensor{'s' * (total > 1)} under {shown} {'were' if total > 1 else 'was'} not used; where "
        f"the weights that are meant are there, save them in a file of their own, by the names of the network"
    )


def _tensors(value: Any, keys: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every tensor that may be a weight, with the keys that lead to it; one of a list has that of the list."""
    import torch

    if torch.is_tensor(value):
        yield keys, value
        return
    if not isinstance(value, dict | list | tuple) or id(value) in seen or len(keys) > _DEEP:
        return
    seen.add(id(value))
    if not isinstance(value, dict):
        for one in value:
            yield from _tensors(one, keys, seen)
        return
    if value.keys() & _OPTIMIZERS:
        return
    for name, one in value.items():
        parts = str(name).split(".")
        if name not in _NO_WEIGHTS and not (torch.is_tensor(one) and _CLASSIFIERS & set(parts)):
            yield from _tensors(one, (*keys, str(name)), seen)


def _place(keys: tuple[str, ...]) -> str:
    """Where a tensor stands, without its own name: `['ema']['shadow_params']`, `['state_dict']['model_ema.…']`."""
    if not keys:
        return "the list"
    first, _, rest = keys[-1].partition(".")
    last = f"{first}.…" if rest else keys[-1]
    return "".join(f"[{key!r}]" for key in (*keys[:-1], last))
