"""A checkpoint's tensors, held against a network of a library and loaded into it: all of them, or none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError
from featcache.files import expand_home
from featcache.text import counted
from featcache.trunks.checkpoints import (
    EFFICIENTNET_ANCHORS,
    POSITION_NAMES,
    VIT_ANCHORS,
    WeightSet,
    choose_weight_set,
    describe_unused,
    find_weight_sets,
    interpolate_positions,
    own_image_size,
    read_checkpoint,
)  # fmt: skip
from featcache.trunks.libraries.classifiers import CLASSIFIERS, classifier_names

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# Computed when the network is built, or counted in training: a checkpoint may lack them, or have them beside the rest.
_DERIVED = ("num_batches_tracked", "relative_position_index", "position_ids", "attn_mask", "relative_coords_table")
_UNREAD = ("mask_token",)  # of training on masked patches: a frozen network never reads it
# A library may resize these without a word where it makes its own names of others.
_SIZED = (*POSITION_NAMES, "relative_position_bias_table", "patch_embed.proj.weight")

# Of the tensors of a ViT torchvision's and the others', and of an EfficientNet.
SPELLINGS = (("class_token", "conv_proj.weight"), *VIT_ANCHORS.values(), EFFICIENTNET_ANCHORS)

Convert = Callable[[dict[str, Any]], dict[str, Any]]  # another spelling of names -> the network's own


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """What a checkpoint has to hold, to be that of a network."""

    tensors: "Mapping[str, Tensor]"  # the network's own, for their names, shapes and types
    what: str  # the network, as a message names it
    convert: Convert | None = None  # makes the network's names of those that the file may have
    beside: tuple[str, ...] = ()  # first parts of names that such a checkpoint has beside the network's
    interpolate: bool = False  # position embeddings of another image size are interpolated
    spellings: tuple[tuple[str, ...], ...] = SPELLINGS  # names of the file that `convert` takes


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What was done with a checkpoint."""

    note: str = ""  # what was undone, left out or not used, as part of a sentence
    is_interpolated: bool = False  # its position embeddings are those of another image size


def load_weights_file(
    module: "Module", weights: str, what: str, convert: Convert | None = None, *, interpolate: bool = False
) -> LoadedWeights:
    """Load a checkpoint's tensors into a network, and return what was done.

    Args:
        module: The network, without its classifier; it is filled whole, or not at all.
        weights: The file.
        what: The network, as a message names it.
        convert: Makes the network's names of those that the file may have, as its library does; None: nothing does.
        interpolate: Interpolate position embeddings that are for another image size, instead of refusing them.

    Raises:
        MachineError: it is no checkpoint of this network; the message says in what they differ.
    """
    file = Path(expand_home(weights))
    expectation = Expectation(dict(module.state_dict()), what, convert, interpolate=interpolate)
    tensors, loaded = pick_expected(file, read_checkpoint(file), expectation)
    fill(module, tensors)
    return loaded


def fill(module: "Module", tensors: "Mapping[str, Tensor]") -> None:
    """Fill a network with tensors by its own names; what they lack stays as it is.

    Args:
        module: The network, without its classifier.
        tensors: As `pick_expected` returns them.
    """
    own = module.state_dict()  # it carries the version of each part, which MNASNet refuses to be without
    own.update(tensors)
    module.load_state_dict(own)


def require_interpolation(what: str, own: Any, wanted: int, *, interpolate: bool) -> LoadedWeights:
    """Refuse published weights of another image size, which a library would interpolate without a word.

    Args:
        what: The network, as a message names it.
        own: The edge of the images that the weights are for, pixels.
        wanted: The edge that is asked for, pixels.
        interpolate: Whether that is asked for, too.

    Raises:
        MachineError: it is not.
    """
    if not interpolate:
        raise MachineError(
            f"weights of {what}: they are for images of {own} pixels, not {wanted}: leave --image-size out, or "
            f"interpolate their position embeddings with --interpolate-positions"
        )
    return LoadedWeights(
        f"its position embeddings were interpolated from {own} to {wanted} pixels", is_interpolated=True
    )


def pick_expected(file: Path, document: Any, expectation: Expectation) -> "tuple[dict[str, Tensor], LoadedWeights]":
    """Return the one set of a network's tensors that a checkpoint holds, in the network's own types.

    Args:
        file: For the message.
        document: What it holds.
        expectation: What it has to hold.

    Returns:
        The tensors by the network's names; and what was done to have them.

    Raises:
        MachineError: it is no checkpoint of this network; the message says in what they differ.
    """
    tensors, notes = _choose(file, document, expectation)
    tensors, resized = _fit_positions(file, tensors, expectation)
    return _check(file, tensors, expectation), LoadedWeights("; ".join([*notes, *resized]), bool(resized))


def _choose(file: Path, document: Any, expectation: Expectation) -> tuple[dict[str, Any], list[str]]:
    """Return the tensors of the one set in a file that is most like the network, by the network's names; and notes."""
    expected = expectation.tensors
    anchors = sorted((name for name in expected if _is_needed(name)), key=lambda name: (-name.count("."), name))[:4]
    sets = find_weight_sets(document, anchors)
    if expectation.convert is not None and not any(anchors[0] in weights.tensors for weights in sets):
        # Other names of the same network, behind a wrapper's prefix.
        others = [weights for names in expectation.spellings for weights in _sets_with(document, names)]
        sets = others or sets
    if not sets:
        raise MachineError(
            f"weights {file}: it holds a {type(document).__name__} without tensors, expected a state dict (names to "
            f"tensors)"
        )
    named = {id(weights): _rename(weights, expectation, anchors) for weights in sets}
    needed = [name for name in expected if _is_needed(name)]

    def likeness(weights: WeightSet) -> int:
        tensors = named[id(weights)]
        return sum(_may_fit(name, tensors.get(name), expectation) for name in needed)

    def is_same(first: WeightSet, second: WeightSet) -> bool:
        pairs = [(named[id(first)][name], named[id(second)][name]) for name in needed]
        return all(a is b or (a.shape == b.shape and bool((a == b).all())) for a, b in pairs)

    chosen = choose_weight_set(file, sets, lambda weights: likeness(weights) == len(needed), is_same)
    if chosen is None:
        return named[id(max(sets, key=likeness))], []
    notes = [f"taken from {chosen}"] if chosen.keys or chosen.prefix else []
    if any(name not in chosen.tensors for name in anchors):
        notes.append(f"its tensors were renamed to those of {expectation.what}")
    if dropped := classifier_names(document, expected, expectation.beside):
        notes.append(f"its classifier was left out ({dropped})")
    notes += [unused] if (unused := describe_unused(document, [chosen])) and not expectation.beside else []
    return named[id(chosen)], notes


def _sets_with(document: Any, names: Sequence[str]) -> list[WeightSet]:
    """Return the sets of weights in a checkpoint that hold all of these names."""
    sets = find_weight_sets(document, names)
    return [weights for weights in sets if all(name in weights.tensors for name in names)]


def _rename(weights: WeightSet, expectation: Expectation, anchors: Sequence[str]) -> dict[str, Any]:
    """Return a set's tensors by the network's names, where its library knows how to make them."""
    tensors = {name: value for name, value in weights.tensors.items() if _is_tensor(value)}
    if expectation.convert is None or all(name in tensors for name in anchors):
        return tensors
    try:
        converted = expectation.convert(dict(tensors))
    except Exception:  # it is made for one spelling, and fails in any way on another
        return tensors
    counts = {value.numel() for name, value in tensors.items()}
    for name, value in converted.items():
        if any(part in name for part in _SIZED) and _is_tensor(value) and value.numel() not in counts:
            # The library resized it in passing: what the file holds is shown instead, and refused for its size.
            converted[name] = next(
                (v for n, v in tensors.items() if _is_sized_alike(n, name, v, value)), value[..., :0]
            )
    return converted


def _is_sized_alike(source: str, target: str, before: "Tensor", after: "Tensor") -> bool:
    part = next(part for part in _SIZED if part in target)
    return (part in source or (part in POSITION_NAMES and "position" in source)) and before.ndim == after.ndim


def _may_fit(name: str, value: Any, expectation: Expectation) -> bool:
    """Return whether a tensor is of the shape that the network has, or can be made so."""
    wanted = expectation.tensors[name]
    if not _has_shape(value, wanted) and expectation.interpolate and _is_position(name) and _is_tensor(value):
        return bool(value.ndim == wanted.ndim and value.shape[-1] == wanted.shape[-1])
    return _has_shape(value, wanted)


def _is_position(name: str) -> bool:
    return any(part in name for part in POSITION_NAMES)


def _fit_positions(file: Path, tensors: dict[str, Any], expectation: Expectation) -> tuple[dict[str, Any], list[str]]:
    """Return tensors with position embeddings of the network's image size, and what was done to them.

    Raises:
        MachineError: they are for another size, and are not to be interpolated, or cannot be; and nothing else differs.
    """
    expected = expectation.tensors
    others = [name for name, value in expected.items() if name in tensors and not _has_shape(tensors[name], value)]
    if not others or not all(_is_position(name) for name in others) or _missing(tensors, expectation):
        return tensors, []
    notes = []
    for name in others:
        value, wanted = tensors[name], expected[name]
        shapes = f"{name} is {tuple(getattr(value, 'shape', ()))}, and {expectation.what} has {tuple(wanted.shape)}"
        if not expectation.interpolate:
            size = own_image_size(value, wanted, expected.values()) if _is_tensor(value) else None
            error = MachineError(
                f"weights {file}: its position embeddings are for images of another size: {shapes}; name the size that "
                f"the weights are for with --image-size{f' {size}' if size else ''}, or interpolate them with "
                f"--interpolate-positions"
            )
            raise error.correct("--image-size", str(size)) if size else error
        resized = interpolate_positions(value, wanted.shape[-2]) if _may_fit(name, value, expectation) else None
        if resized is None:
            raise MachineError(f"weights {file}: its position embeddings cannot be interpolated: {shapes}")
        tensors = {**tensors, name: resized}
        notes.append(f"{name} was interpolated from {value.shape[-2]} to {wanted.shape[-2]} positions")
    return tensors, notes


def _missing(tensors: Mapping[str, Any], expectation: Expectation) -> list[str]:
    return [name for name in expectation.tensors if _is_needed(name) and name not in tensors]


def _check(file: Path, tensors: dict[str, Any], expectation: Expectation) -> "dict[str, Tensor]":
    """Return what a network is filled with, in its own types.

    Raises:
        MachineError: tensors are missing, too many, of another shape, or not finite.
    """
    expected = expectation.tensors
    missing = _missing(tensors, expectation)
    beside = (*CLASSIFIERS, *expectation.beside)
    foreign = [
        name
        for name in tensors
        if name not in expected and name.split(".")[0] not in beside and not name.endswith((*_DERIVED, *_UNREAD))
    ]
    shapes = [name for name, value in expected.items() if name in tensors and not _has_shape(tensors[name], value)]
    problems = [f"{counted(len(missing), 'tensor')} missing (first: {missing[0]})"] if missing else []
    problems += [f"{len(foreign)} that it does not have (first: {foreign[0]})"] if foreign else []
    if shapes:
        shape, wanted = tuple(tensors[shapes[0]].shape), tuple(expected[shapes[0]].shape)
        problems.append(f"{len(shapes)} of another shape (first: {shapes[0]} is {shape}, expected {wanted})")
    if problems:
        raise MachineError(
            f"weights {file}: not those of {expectation.what}: {'; '.join(problems)}. Name the weights of this "
            f"network, or the network of these"
        )
    ready = {name: tensors[name].detach().to(value.dtype) for name, value in expected.items() if name in tensors}
    broken = [name for name, value in ready.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise MachineError(
            f"weights {file}: {counted(len(broken), 'tensor')} with nan or inf (first: {broken[0]}); save them again"
        )
    return ready


def _is_needed(name: str) -> bool:
    return not name.endswith(_DERIVED)


def _is_tensor(value: Any) -> bool:
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and not value.is_nested
        and not value.is_quantized
    )


def _has_shape(value: Any, expected: "Tensor") -> bool:
    return _is_tensor(value) and value.shape == expected.shape
