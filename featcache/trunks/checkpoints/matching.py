"""A checkpoint's tensors, held against an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError
from featcache.trunks import Architecture
from featcache.trunks.checkpoints.tensor_names import recognize_names
from featcache.trunks.checkpoints.unused_tensors import describe_unused
from featcache.trunks.checkpoints.vit_names import VIT_ANCHORS, naming_of, rename_vit
from featcache.trunks.checkpoints.weight_sets import WeightSet, choose_weight_set, find_weight_sets

if TYPE_CHECKING:
    from torch import Tensor


class OtherNetworkError(MachineError):
    """A checkpoint is that of another network than the one that it was named for."""


@dataclass(frozen=True, slots=True, eq=False)
class PickedTensors:
    """One set of weights of a checkpoint."""

    tensors: Mapping[str, Any]  # by torchvision's names, where whose they are is known
    note: str = ""  # part of a sentence: what was renamed, and which tensors were not used
    original: Mapping[str, Any] = field(default_factory=dict)  # by the names of the file


def pick_tensors(file: Path, document: Any, arch: Architecture, crop: int) -> PickedTensors:
    """Return the one set of weights in a checkpoint that is this architecture's, and what stands beside it.

    Where no set is the architecture's, it is the one that is most like it. Timm's, DINO's, MAE's and transformers'
    names of the same network are made torchvision's.

    Args:
        file: The checkpoint, for the message.
        document: What it holds.
        arch: The network.
        crop: The edge of the images that the network is for, pixels.

    Raises:
        MachineError: no tensors, or several such sets.
    """
    expected = arch.shapes(crop)
    sets = [weights for weights in find_weight_sets(document) if naming_of(weights.tensors) not in VIT_ANCHORS]
    for naming, anchors in VIT_ANCHORS.items():
        others = find_weight_sets(document, anchors)
        sets += [weights for weights in others if naming_of(weights.tensors) == naming]
    if not sets:
        raise MachineError(
            f"weights {file}: it holds a {type(document).__name__} without tensors, expected a state dict (names to "
            f"tensors)"
        )
    renamed = {id(weights): _rename(weights.tensors) for weights in sets}

    def likeness(weights: WeightSet) -> tuple[int, int]:
        tensors = renamed[id(weights)]
        return sum(_describe(tensors.get(name)) == str(shape) for name, shape in expected.items()), len(tensors)

    def fits(weights: WeightSet) -> bool:
        return likeness(weights)[0] == len(expected)

    def is_same(first: WeightSet, second: WeightSet) -> bool:
        a, b = renamed[id(first)], renamed[id(second)]
        return all(bool((a[name] == b[name]).all()) for name in expected)

    chosen = choose_weight_set(file, sets, fits, is_same)
    if chosen is None:
        best = max(sets, key=likeness)
        return PickedTensors(renamed[id(best)], original=best.tensors)
    equal = [weights for weights in sets if fits(weights)]
    notes = [_describe_renaming(chosen), describe_unused(document, equal)]
    return PickedTensors(renamed[id(chosen)], "; ".join(note for note in notes if note), chosen.tensors)


def _describe_renaming(weights: WeightSet) -> str:
    """Return what was renamed of a set of weights, part of a sentence; "" where nothing was."""
    match naming_of(weights.tensors):
        case "timm":
            return "its tensors, named as in timm, DINO and MAE, were renamed to torchvision's names"
        case "transformers":
            return (
                "its tensors, named as in transformers, were renamed to torchvision's names, and computed with "
                "torchvision's layer_norm_eps, 1e-6 (transformers' default is 1e-12: --arch hf:FOLDER computes with it)"
            )
        case _:
            return ""


def _rename(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors by the names that torchvision has today, without the classifier."""
    tensors = rename_vit(tensors, "torchvision") or tensors
    renamed = {n.replace("mlp.linear_1", "mlp.0").replace("mlp.linear_2", "mlp.3"): v for n, v in tensors.items()}
    return {name: value for name, value in renamed.items() if not name.startswith("heads.")}


def check_tensors(
    tensors: Mapping[str, Any], arch: Architecture, crop: int, weights: str, original: Mapping[str, Any] | None = None
) -> dict[str, "Tensor"]:
    """Return exactly the architecture's tensors, float32, in torchvision's names.

    Args:
        tensors: By name, one set of weights as a checkpoint has it; a classifier (`heads.…`) is left out.
        arch: The network that they are to be of.
        crop: The edge of the images that the network is for, pixels.
        weights: What a message calls them: a file, or a published name.
        original: The same by the names of the file, where those were others.

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
        shapes = {name: tuple(value.shape) for name, value in (original or tensors).items() if torch.is_tensor(value)}
        raise OtherNetworkError(
            f"weights {weights}: not those of torchvision's {arch.name} at {crop} pixels: {'; '.join(problems)}. "
            f"{recognize_names(shapes, arch.name) or 'Name the weights of this network, or the network of these.'}"
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
