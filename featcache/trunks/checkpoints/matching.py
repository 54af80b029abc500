"""A checkpoint's tensors, held against an architecture."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError
from featcache.trunks import Architecture
from featcache.trunks.checkpoints.tensor_names import recognize_names
from featcache.trunks.checkpoints.unused_tensors import describe_unused
from featcache.trunks.checkpoints.weight_sets import WeightSet, choose_weight_set, find_weight_sets

if TYPE_CHECKING:
    from torch import Tensor


def pick_tensors(file: Path, document: Any, arch: Architecture, crop: int) -> tuple[Mapping[str, Any], str]:
    """Return the one set of weights in a checkpoint that is this architecture's, and what stands beside it.

    Where no set is the architecture's, it is the one that is most like it.

    Args:
        file: The checkpoint, for the message.
        document: What it holds.
        arch: The network.
        crop: The edge of the images that the network is for, pixels.

    Returns:
        The tensors, and part of a sentence that says which others were not used, or "".

    Raises:
        MachineError: no tensors, or several such sets.
    """
    expected = arch.shapes(crop)
    sets = find_weight_sets(document)
    if not sets:
        raise MachineError(
            f"weights {file}: it holds a {type(document).__name__} without tensors, expected a state dict (names to "
            f"tensors)"
        )

    def likeness(weights: WeightSet) -> tuple[int, int]:
        tensors = _rename(weights.tensors)
        return sum(_describe(tensors.get(name)) == str(shape) for name, shape in expected.items()), len(tensors)

    def fits(weights: WeightSet) -> bool:
        return likeness(weights)[0] == len(expected)

    def is_same(first: WeightSet, second: WeightSet) -> bool:
        a, b = _rename(first.tensors), _rename(second.tensors)
        return all(bool((a[name] == b[name]).all()) for name in expected)

    chosen = choose_weight_set(file, sets, fits, is_same)
    if chosen is None:
        return max(sets, key=likeness).tensors, ""
    equal = [weights for weights in sets if fits(weights)]
    return chosen.tensors, describe_unused(document, equal)


def _rename(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors by the names that torchvision has today, without the classifier."""
    renamed = {n.replace("mlp.linear_1", "mlp.0").replace("mlp.linear_2", "mlp.3"): v for n, v in tensors.items()}
    return {name: value for name, value in renamed.items() if not name.startswith("heads.")}


def check_tensors(tensors: Mapping[str, Any], arch: Architecture, crop: int, weights: str) -> dict[str, "Tensor"]:
    """Return exactly the architecture's tensors, float32, in torchvision's names.

    Args:
        tensors: By name, one set of weights as a checkpoint has it; a classifier (`heads.…`) is left out.
        arch: The network that they are to be of.
        crop: The edge of the images that the network is for, pixels.
        weights: What a message calls them: a file, or a published name.

    Raises:
        MachineError: they are of another network, or not finite; the message names what differs.
    """
    import torch

    expected = arch.shapes(crop)  # importing torchvision, which has them too, takes seconds
    renamed = _rename(tensors)
    missing = [name for name in expected if name not in renamed]
    foreign = [name for name in renamed if name not in expected]
    given = {name: _describe(renamed[name]) for name in expected if name in renamed}
    misshapen = [
        f"{name} is {shape}, expected {expected[name]}" for name, shape in given.items() if shape != str(expected[name])
    ]
    problems = [f"{len(missing)} tensors missing (first: {missing[0]})"] if missing else []
    problems += [f"{len(foreign)} that {arch.name} does not have (first: {foreign[0]})"] if foreign else []
    problems += [f"{len(misshapen)} of another shape (first: {misshapen[0]})"] if misshapen else []
    if problems:
        shapes = {name: tuple(value.shape) for name, value in tensors.items() if torch.is_tensor(value)}
        raise MachineError(
            f"weights {weights}: not those of torchvision's {arch.name} at {crop} pixels: {'; '.join(problems)}. "
            f"{recognize_names(shapes) or 'Name the weights of this architecture, or the architecture of these.'}"
        )
    ready = {name: renamed[name].detach().to(torch.float32) for name in expected}
    broken = [name for name, value in ready.items() if not _is_finite(value)]
    if broken:
        raise MachineError(
            f"weights {weights}: {len(broken)} tensors hold nan or inf (first: {broken[0]}); save them again"
        )
    return ready


def _is_finite(value: "Tensor") -> bool:
    """Return whether no number is nan or infinite; by the extremes, which nan is among: a fifth of isfinite's time."""
    return all(bool(extreme.isfinite()) for extreme in value.aminmax())


def _describe(value: Any) -> str:
    """Return the shape of a plain tensor of floating-point numbers; of anything else, what it is."""
    import torch

    if not torch.is_tensor(value):
        return type(value).__name__
    if value.is_nested or value.layout != torch.strided or value.device.type != "cpu" or not value.is_floating_point():
        return f"a {value.device.type} tensor, {value.layout}, {value.dtype}"
    return str(tuple(value.shape))
