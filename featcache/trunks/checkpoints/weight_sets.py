"""What a checkpoint holds, as training left it -> the names and tensors of one network.

Trainers wrap what they save: in other keys (`state_dict`, `model`, an averaged copy beside it), and its names in
prefixes (`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile, `model.` or `backbone.` of a Lightning
module). All of that is taken off here. Where a file holds several sets of weights that differ, none is chosen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import MachineError
from featcache.trunks.checkpoints.reading import saving_lines

_ANCHORS = ("class_token", "conv_proj.weight", "encoder.pos_embedding", "encoder.ln.weight")
# Parts of a name that wrappers add wherever the module that they wrap stands.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_MAX_DEPTH = 5  # keys above the names
_NAMED = 4  # sets of weights in a message


@dataclass(frozen=True, slots=True)
class WeightSet:
    """One set of weights in a checkpoint: where it stands in the file, and its tensors by the network's own names."""

    keys: tuple[str, ...]  # that lead to it
    prefix: str  # of its names, there
    tensors: Mapping[str, Any]
    wrapper: str = ""  # a part that all these names have, and those of another set in the same place have not

    def __str__(self) -> str:
        """Where it stands, as a person names it."""
        keys = "".join(f"[{key!r}]" for key in self.keys)
        if self.wrapper:
            return f"the names with {self.wrapper!r}" + (f" in {keys}" if keys else "")
        if not self.prefix:
            return keys or "the names without a prefix"
        return f"the names that begin with {self.prefix!r}" + (f" in {keys}" if keys else "")

    def code(self) -> str:
        """Return Python that picks it out of `found`, what torch.load gave."""
        place = "found" + "".join(f"[{key!r}]" for key in self.keys)
        if self.wrapper:
            part = f"{self.wrapper}."
            return f"{{name.replace({part!r}, ''): value for name, value in {place}.items() if {part!r} in name}}"
        if not self.prefix:
            return place
        cut = f"name.removeprefix({self.prefix!r}): value for name, value in {place}.items()"
        return f"{{{cut} if name.startswith({self.prefix!r})}}"


def find_weight_sets(document: Any, anchors: Sequence[str] = _ANCHORS) -> list[WeightSet]:
    """Return every set of weights that a checkpoint holds, with all that wrappers put around its names taken off.

    A set is the names below one prefix, where there is one of `anchors` below it; where there is none anywhere, all
    names of a dictionary are one set.

    Args:
        document: What the file holds.
        anchors: Names of the network that no other prefix ends in; by default a ViT's class token, patch projection,
            positions and last LayerNorm, as torchvision names them.
    """
    return [
        weights for keys, state in _state_dicts(document, ()) for weights in _split_by_wrapper(keys, state, anchors)
    ]


def choose_weight_set(
    file: Path,
    sets: list[WeightSet],
    fits: Callable[[WeightSet], bool],
    is_same: Callable[[WeightSet, WeightSet], bool],
) -> WeightSet | None:
    """Return the one set that fits the network; None where none does. Sets that hold the same tensors are one.

    Args:
        file: The checkpoint, for the message.
        sets: What it holds.
        fits: Says whether a set fits the network.
        is_same: Says whether two sets hold the same tensors.

    Raises:
        MachineError: several fit, and they differ.
    """
    fitting = [weights for weights in sets if fits(weights)]
    different = [
        weights
        for number, weights in enumerate(fitting)
        if not any(is_same(weights, earlier) for earlier in fitting[:number])
    ]
    if len(different) > 1:
        shown = "; ".join(str(weights) for weights in different[:_NAMED])
        raise MachineError(
            f"weights {file}: it holds {len(different)} sets of weights of this network, and they differ: {shown}. "
            f"Save the one that is meant in a file of its own, and name that:{saving_lines(file, different[-1].code())}"
        )
    return different[0] if different else None


def _state_dicts(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield every dictionary of names to tensors, with the keys that lead to it; those of optimizers are none."""
    import torch

    if not isinstance(value, Mapping) or len(keys) > _MAX_DEPTH or "param_groups" in value:
        return
    items = {name: item for name, item in value.items() if isinstance(name, str)}
    state = {name: item for name, item in items.items() if not isinstance(item, Mapping | list | tuple)}
    if any(torch.is_tensor(item) for item in state.values()):
        yield keys, state
    for name, item in items.items():
        yield from _state_dicts(item, (*keys, name))


def _split_by_wrapper(keys: tuple[str, ...], state: Mapping[str, Any], anchors: Sequence[str]) -> Iterator[WeightSet]:
    """Yield the sets of one dictionary: names that differ by a wrapper's part alone are of two sets."""
    spellings: dict[str, list[str]] = {}  # name without wrappers -> as it stands there
    for name in state:
        spellings.setdefault(".".join(part for part in name.split(".") if part not in _WRAPPERS), []).append(name)
    if all(len(names) == 1 for names in spellings.values()):
        yield from _split_by_prefix(keys, {name: state[names[0]] for name, names in spellings.items()}, anchors)
        return
    yield from _split_by_prefix(keys, {name: state[name] for name in spellings if name in state}, anchors)
    # The same names with a wrapper's part.
    wrapped = {name: names[-1] for name, names in spellings.items() if names[-1] != name}
    wrapper = next(part for part in next(iter(wrapped.values())).split(".") if part in _WRAPPERS)
    yield from _split_by_prefix(keys, {name: state[original] for name, original in wrapped.items()}, anchors, wrapper)


def _split_by_prefix(
    keys: tuple[str, ...], state: Mapping[str, Any], anchors: Sequence[str], wrapper: str = ""
) -> Iterator[WeightSet]:
    """Yield the sets of one dictionary: each is what stands below one prefix."""
    prefixes = dict.fromkeys(
        name.removesuffix(anchor) for name in state for anchor in anchors if f".{name}".endswith(f".{anchor}")
    )
    for prefix in prefixes or {"": None}:
        tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        inner = [other.removeprefix(prefix) for other in prefixes if other != prefix and other.startswith(prefix)]
        own = {name: value for name, value in tensors.items() if not any(name.startswith(other) for other in inner)}
        yield WeightSet(keys, prefix, own, wrapper)
