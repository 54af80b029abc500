"""A checkpoint's tensors, held against a network of a library and loaded into it: all of them, or none."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError
from featcache.files import expand_home
from featcache.trunks.checkpoints import (
    WeightSet,
    choose_weight_set,
    describe_unused,
    find_weight_sets,
    read_checkpoint,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# Computed when the network is built, or counted in training: a checkpoint may lack them.
_DERIVED = ("num_batches_tracked", "relative_position_index", "position_ids", "attn_mask", "relative_coords_table")
_CLASSIFIERS = ("head", "heads", "head_dist", "fc", "classifier", "last_linear", "aux1", "aux2", "AuxLogits", "logits")
_POSITIONS = ("pos_embed", "position_embedding", "positional_embedding")

Convert = Callable[[dict[str, Any]], dict[str, Any]]  # another spelling of names -> the network's own


def load_file(module: "Module", weights: str, what: str, convert: Convert | None = None) -> str:
    """Load a checkpoint's tensors into a network, and return what else the file holds, as part of a sentence.

    Args:
        module: The network, without its classifier; it is filled whole, or not at all.
        weights: The file.
        what: The network, as a message names it.
        convert: Makes the network's names of those that the file may have, as its library does; None: nothing does.

    Raises:
        MachineError: it is no checkpoint of this network; the message says in what they differ.
    """
    file = Path(expand_home(weights))
    document = read_checkpoint(file)
    expected = _expected(module)
    chosen, note = _choose(file, document, expected, convert)
    fill(module, chosen, file, what)
    return note


def fill(module: "Module", tensors: dict[str, Any], file: Path, what: str) -> None:
    """Fill a network with tensors by its own names: whole, or not at all.

    Args:
        module: The network, without its classifier.
        tensors: A classifier's among them are left out.
        file: Where they are from.
        what: The network, as a message names it.

    Raises:
        MachineError: they are not those of this network; the message says in what they differ.
    """
    own = module.state_dict()  # it carries the version of each part, which MNASNet refuses to be without
    own.update(_check(file, tensors, own, what))
    module.load_state_dict(own)


def _expected(module: "Module") -> "dict[str, Tensor]":
    return dict(module.state_dict())


def _choose(
    file: Path, document: Any, expected: "Mapping[str, Tensor]", convert: Convert | None
) -> tuple[dict[str, Any], str]:
    """Return the tensors of the one set in a file that is most like the network, by the network's names; and a note."""
    anchors = sorted((name for name in expected if _is_needed(name)), key=lambda name: (-name.count("."), name))[:4]
    sets = find_weight_sets(document, anchors)
    if not sets:
        raise MachineError(
            f"weights {file}: it holds a {type(document).__name__} without tensors, expected a state dict (names to "
            f"tensors)"
        )

    def renamed(weights: WeightSet) -> dict[str, Any]:
        tensors = {name: value for name, value in weights.tensors.items() if _is_tensor(value)}
        if convert is None or all(name in tensors for name in anchors):
            return tensors
        try:
            return convert(tensors)
        except Exception:  # it is made for one spelling, and fails in any way on another
            return tensors

    named = {id(weights): renamed(weights) for weights in sets}
    needed = [name for name in expected if _is_needed(name)]

    def likeness(weights: WeightSet) -> int:
        return sum(_has_shape(named[id(weights)].get(name), expected[name]) for name in needed)

    def is_same(first: WeightSet, second: WeightSet) -> bool:
        return all(bool((named[id(first)][name] == named[id(second)][name]).all()) for name in needed)

    chosen = choose_weight_set(file, sets, lambda weights: likeness(weights) == len(needed), is_same)
    if chosen is None:
        return named[id(max(sets, key=likeness))], ""
    notes = [f"taken from {chosen}"] if chosen.keys or chosen.prefix else []
    notes += [unused] if (unused := describe_unused(document, [chosen])) else []
    return named[id(chosen)], "; ".join(notes)


def _check(file: Path, tensors: dict[str, Any], expected: "Mapping[str, Tensor]", what: str) -> "dict[str, Tensor]":
    """Return what a network is filled with, in its own types.

    Raises:
        MachineError: tensors are missing, too many, of another shape, or not finite.
    """
    missing = [name for name in expected if _is_needed(name) and name not in tensors]
    foreign = [name for name in tensors if name not in expected and name.split(".")[0] not in _CLASSIFIERS]
    shapes = [name for name, value in expected.items() if name in tensors and not _has_shape(tensors[name], value)]
    if [name for name in shapes if any(part in name for part in _POSITIONS)] == shapes and shapes and not missing:
        name = shapes[0]
        raise MachineError(
            f"weights {file}: its position embeddings are for images of another size: {name} is "
            f"{tuple(tensors[name].shape)}, and {what} has {tuple(expected[name].shape)}; name the size that the "
            f"weights are for with --image-size"
        )
    problems = [f"{len(missing)} tensors missing (first: {missing[0]})"] if missing else []
    problems += [f"{len(foreign)} that it does not have (first: {foreign[0]})"] if foreign else []
    if shapes:
        found, wanted = tuple(tensors[shapes[0]].shape), tuple(expected[shapes[0]].shape)
        problems.append(f"{len(shapes)} of another shape (first: {shapes[0]} is {found}, expected {wanted})")
    if problems:
        raise MachineError(
            f"weights {file}: not those of {what}: {'; '.join(problems)}. Name the weights of this network, or the "
            f"network of these"
        )
    ready = {name: tensors[name].detach().to(value.dtype) for name, value in expected.items() if name in tensors}
    broken = [name for name, value in ready.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise MachineError(
            f"weights {file}: {len(broken)} tensors hold nan or inf (first: {broken[0]}); save them again"
        )
    return ready


def _is_needed(name: str) -> bool:
    return not name.endswith(_DERIVED)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_nested


def _has_shape(value: Any, expected: "Tensor") -> bool:
    return value is not None and _is_tensor(value) and value.shape == expected.shape
