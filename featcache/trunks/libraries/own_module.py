"""A network of one's own: by the import path of what makes it, `mynets.small:SmallNet`, or a module as an object."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import FeatcacheError, UsageError
from featcache.media import ImageTransform
from featcache.recipe import find_network_object, is_network_object, is_own_weights
from featcache.trunks import seeded
from featcache.trunks.libraries.base import LoadedNetwork
from featcache.trunks.libraries.import_path import describe_error, import_object
from featcache.trunks.libraries.own_forward import OwnForward
from featcache.trunks.libraries.own_transform import how_to_state, read_transform
from featcache.trunks.libraries.tensors import LoadedWeights, load_weights_file
from featcache.trunks.libraries.weights_argument import classify_weights

if TYPE_CHECKING:
    from torch.nn import Module


class OwnModules:
    """What `package.module:callable` returns: a `torch.nn.Module` from (n, 3, height, width) to features."""

    prefix = "module"
    package = "torch"

    def match_names(self, pattern: str) -> list[str]:  # noqa: ARG002 (anything that can be imported is one)
        """Return nothing: there is no list of what can be imported."""
        return []

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return the module with its weights: "own" are those that it comes with."""
        if image_size:
            raise UsageError("--image-size has no effect on a module of your own: its transform says the size")
        is_own = is_own_weights(name, weights)
        kind = "published" if is_own else classify_weights(weights)
        if kind == "published" and not is_own:
            raise UsageError(
                f"weights {weights!r} of {name}: expected a .pth or .safetensors file, own (as the module comes), or "
                f"random"
            )
        module, maker = _make(name, kind)
        loaded = (
            load_weights_file(module, weights, name, interpolate=interpolate) if kind == "file" else LoadedWeights()
        )
        module.eval()  # not `freeze`: a module of one's own may return nothing here
        module.requires_grad_(requires_grad=False)
        transform, problem = _transform(module, maker, how_to_state(is_object=is_network_object(name)))
        return LoadedNetwork(
            module, OwnForward(module, name), transform, note=loaded.note,
            is_interpolated=loaded.is_interpolated, no_transform=problem, keeps_layout=True,
            own_pixels=_own_pixels(module, maker),
        )  # fmt: skip


def _make(name: str, kind: str) -> tuple["Module", Any]:
    """Return a module of one's own, and what made it.

    Args:
        name: The import path.
        kind: Of the weights, see `classify_weights`.

    Raises:
        UsageError: it cannot be imported or made; or its weights are not the same ones every time.
    """
    import torch

    if is_network_object(name):
        return _copy(name, kind)
    with _all_seeded(0):
        maker = import_object(name)
    if isinstance(maker, torch.nn.Module):
        if kind == "random":
            raise UsageError(f"--arch {name}: it is a module, with its weights: --weights random cannot draw others")
        return copy.deepcopy(maker), maker
    if not callable(maker):
        raise UsageError(
            f"--arch {name}: it is of type {type(maker).__name__}, expected a torch.nn.Module, or a class or function "
            f"that returns one"
        )
    module = _call(maker, name, 0)
    if kind == "published" and not _is_equal(module, _call(maker, name, 1)):
        raise UsageError(
            f"--arch {name}: its weights are drawn at random whenever it is made; name a file of trained ones with "
            f"--weights FILE, or type --weights random"
        )
    if kind == "random" and not _is_equal(module, _call(maker, name, 0)):
        raise UsageError(
            f"--arch {name}: its random weights are others each time, although every generator is seeded; save them "
            f"once, and name the file with --weights FILE"
        )
    return module, maker


def _copy(name: str, kind: str) -> tuple["Module", "Module"]:
    """Return a copy, float32 on the CPU, of a module that a program handed over, and the module.

    Raises:
        UsageError: this program has none of this name; other weights are asked for; or it cannot be copied.
    """
    module = find_network_object(name)
    if module is None:
        raise UsageError(
            f"arch {name}: this was a torch.nn.Module in a Python program; pass the same module there, as arch="
        )
    if kind != "published":
        raise UsageError(f"arch {name}: a module has its weights; load others into it, and leave weights out")
    try:
        copied: Module = copy.deepcopy(module).cpu().float()
    except Exception as error:  # of whatever the module holds
        raise UsageError(f"arch {name}: it cannot be copied: {describe_error(error)}") from None
    return copied, module


def _call(maker: Any, name: str, seed: int) -> "Module":
    """Return what a callable makes, with random numbers drawn from a seed.

    Raises:
        UsageError: it fails, or returns something else than a module whose tensors are there.
    """
    import torch

    try:
        with _all_seeded(seed):
            module = maker()
    except FeatcacheError:
        raise
    except (Exception, SystemExit) as error:  # a user's own code
        raise UsageError(f"--arch {name}: calling it without arguments failed: {describe_error(error)}") from None
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"--arch {name}: it returned a {type(module).__name__}, expected a torch.nn.Module")
    lazy = [key for key, value in module.state_dict().items() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise UsageError(f"--arch {name}: {lazy[0]} has no shape before a first forward; give its layer its width")
    return module


def _is_equal(first: "Module", second: "Module") -> bool:
    """Whether two modules hold the same tensors."""
    import torch

    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


@contextmanager
def _all_seeded(seed: int) -> Iterator[None]:
    """Draw what torch, NumPy and Python draw within from a seed, and leave their generators as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        with seeded(seed):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _attribute(module: Any, maker: Any) -> Any:
    """Return the attribute `transform` of a module, or of the function that made it; None where there is none."""
    given = getattr(module, "transform", None)
    return getattr(maker, "transform", None) if given is None else given


def _transform(module: Any, maker: Any, way_out: str) -> tuple[ImageTransform | None, str]:
    """Return the transform that a module says, or None and why."""
    given = _attribute(module, maker)
    if given is None:
        return None, f"it does not say what is done to an image before it: {way_out}"
    try:
        return read_transform(given), ""
    except UsageError as error:
        return None, f"{error}; {way_out}"


def _own_pixels(module: Any, maker: Any) -> Any:
    """Return what torchvision's transform makes of an image, to hold ours against; None of a dict."""
    given = _attribute(module, maker)
    return given if callable(given) and not isinstance(given, ImageTransform | dict) else None
