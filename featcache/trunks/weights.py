"""A trunk's tensors: from torchvision's own download, from a file, or random where that was typed.

Whatever the source, they end as torchvision's names in float32, without a classifier, of exactly the shapes that the
architecture has; their sha256, not the file's, is what identifies the trunk.
"""

import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError
from featcache.files import expand_home
from featcache.files import hash_tensors as hash_tensors
from featcache.media import ImageTransform
from featcache.trunks.architectures import RANDOM, Architecture, weights_kind
from featcache.trunks.checkpoints import OtherNetworkError, check_tensors, pick_tensors, read_checkpoint
from featcache.trunks.downloads import hash_weights_file, network_timeout, refuse_damaged_file
from featcache.trunks.seeding import SEED, seeded

if TYPE_CHECKING:
    from torch import Tensor


def weights_path(arch: Architecture, weights: str) -> Path | None:
    """Return the file that holds (or would hold) the tensors; None for random ones. Imports no torch.

    Args:
        arch: The network.
        weights: A published name, a file, or "random".

    Raises:
        UsageError: it is none of them.
    """
    match weights_kind(arch, weights):
        case "random":
            return None
        case "file":
            return Path(expand_home(weights))
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(expand_home(home)) / "hub" / "checkpoints" / arch.published[weights].file


def memo_key(weights: str) -> str:
    """Return what stands for weights in the memory of their hashes: random ones depend on torch's generator, too."""
    return f"{RANDOM} {SEED} torch {version('torch')}" if weights == RANDOM else weights


def transform_for(arch: Architecture, weights: str) -> ImageTransform:
    """Return the transform that belongs to weights: published ones bring their own, by name and as a file."""
    kind, file = weights_kind(arch, weights), Path(expand_home(weights))
    is_file = kind == "file" and arch.published and file.is_file()
    name = weights if kind == "published" else find_published_name(arch, hash_weights_file(file)) if is_file else ""
    return arch.published[name].transform if name else arch.transform


def find_published_name(arch: Architecture, sha256: str) -> str:
    """Return torchvision's name of the weights in a file of this sha256, whose start they publish; "" for others."""
    return next((name for name, published in arch.published.items() if sha256.startswith(published.prefix)), "")


def load_with_note(arch: Architecture, weights: str, crop: int | None = None) -> tuple[dict[str, "Tensor"], str]:
    """Return a trunk's tensors, and which others their file holds.

    Args:
        arch: The network.
        weights: A published name, a file, or "random".
        crop: The edge of the images that they are for, pixels; None: that of the transform that belongs to them.

    Returns:
        The tensors, float32, in torchvision's names, without a classifier; and part of a sentence, or "".

    Raises:
        MachineError: out of reach, damaged, no checkpoint, or of another network; the message says what to do.
    """
    crop = crop or transform_for(arch, weights).crop
    tensors: Mapping[str, Any]
    match weights_kind(arch, weights):
        case "random":
            tensors = _random(arch)
        case "published":
            tensors = _download(arch, weights)
        case _:
            file = Path(expand_home(weights))
            picked = pick_tensors(file, read_checkpoint(file), arch, crop)
            return check_tensors(picked.tensors, arch, crop, weights, picked.original), picked.note
    return check_tensors(tensors, arch, crop, weights), ""


@contextmanager
def correct_other_network(weights: str, arch: str) -> Iterator[None]:
    """Return a context that adds to the error about weights of another network the one that their file is named after.

    Args:
        weights: As they were named.
        arch: The network that they were named for.

    Raises:
        MachineError: the one that was raised inside.
    """
    try:
        yield
    except OtherNetworkError as error:
        from featcache.trunks.libraries import guess_arch

        guessed = guess_arch(weights)
        raise (error if guessed in (None, arch) else error.correct("--arch", guessed or "")) from None


def import_torch_beside(do: Callable[[], object]) -> None:
    """Do something in a thread of its own while torch is imported, which takes a second, and wait for both.

    Args:
        do: It lets go of the interpreter, as hashing does; what it raises is raised here.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="featcache-weights") as pool:
        done = pool.submit(do)
        import torch  # noqa: F401

        done.result()


def build_network(arch: Architecture, crop: int) -> Any:
    """Return torchvision's own module for this architecture, its classifier removed, for images of crop x crop pixels.

    It is on the meta device where that is set.

    Args:
        arch: The architecture.
        crop: The images' edge, pixels.
    """
    from torch.nn import Identity
    from torchvision.models import VisionTransformer

    network = VisionTransformer(
        image_size=crop,
        patch_size=arch.patch,
        num_layers=arch.depth,
        num_heads=arch.heads,
        hidden_dim=arch.dim,
        mlp_dim=arch.mlp,
    )
    network.heads = Identity()
    return network


def _random(arch: Architecture) -> dict[str, "Tensor"]:
    with seeded():
        tensors: dict[str, Tensor] = build_network(arch, arch.transform.crop).state_dict()
    return tensors


def _download(arch: Architecture, name: str) -> dict[str, "Tensor"]:
    """Fetch published weights torchvision's way, with its progress bar and hash check.

    The check comes first where the file is there.
    """
    import torchvision

    file = weights_path(arch, name)
    assert file is not None  # noqa: S101 (published weights have a file)
    refuse_damaged_file(file)
    try:
        # stdout is for results, and torch.hub writes there.
        with network_timeout(), redirect_stdout(sys.stderr):
            weights = torchvision.models.get_model_weights(arch.name)[name]
            tensors: dict[str, Tensor] = weights.get_state_dict(
                model_dir=str(file.parent), progress=True, check_hash=True, weights_only=True
            )
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or str(error).splitlines()[0]
        raise MachineError(
            f"weights {name} of {arch.name} could not be downloaded: {reason}. Copy {file.name} to {file.parent} "
            f"from a machine with a network, or name a file with --weights FILE; --weights random runs the "
            f"pipeline without a trained trunk."
        ) from None
    return tensors


def is_reachable(arch: Architecture, name: str, seconds: float) -> bool:
    """Return whether published weights are on disk, or their server answers in time, name look-up included.

    Args:
        arch: The network.
        name: Torchvision's name of the weights.
        seconds: How long to wait for the server.
    """
    import torchvision

    file = weights_path(arch, name)
    if file is not None and file.exists():
        return True
    url = torchvision.models.get_model_weights(arch.name)[name].url
    is_found: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (torchvision's own https address)
        with suppress(OSError), urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310
            is_found.append(response.status == 200)

    thread = threading.Thread(target=ask, daemon=True)  # a name look-up knows no time limit: it is left behind
    thread.start()
    thread.join(seconds)
    return any(is_found)
