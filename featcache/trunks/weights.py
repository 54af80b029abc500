"""A trunk's tensors: from torchvision's own download, from a file, or random where that was typed.

Whatever the source, they end as torchvision's names in float32, without a classifier, of exactly the shapes that the
architecture has; their sha256, not the file's, is what identifies the trunk.
"""

import hashlib
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError
from featcache.files import expand_home, hash_file
from featcache.media import ImageTransform
from featcache.trunks import checkpoints, formats, further
from featcache.trunks.architectures import RANDOM, Architecture, weights_kind

if TYPE_CHECKING:
    from torch import Tensor

SEED = 0  # of random weights
_TIMEOUT = 30.0  # seconds without a byte from the server


def file_of(arch: Architecture, asked: str) -> Path | None:
    """The file that holds (or would hold) the tensors; None for random ones. Imports no torch."""
    match weights_kind(arch, asked):
        case "random":
            return None
        case "file":
            return Path(expand_home(asked))
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(expand_home(home)) / "hub" / "checkpoints" / arch.published[asked].file


def memo_name(asked: str) -> str:
    """What stands for the weights in the memory of their hashes: random ones depend on torch's generator too."""
    return f"{RANDOM} {SEED} torch {version('torch')}" if asked == RANDOM else asked


def transform_of(arch: Architecture, asked: str) -> ImageTransform:
    """The transform that belongs to the weights: published ones bring their own, by name and as a file."""
    sort, file = weights_kind(arch, asked), Path(expand_home(asked))
    is_file = sort == "file" and arch.published and file.is_file()
    name = asked if sort == "published" else published_as(arch, sha256_of(file)) if is_file else ""
    return arch.published[name].transform if name else arch.transform


def published_as(arch: Architecture, sha256: str) -> str:
    """Torchvision's name of the weights in a file of this sha256, whose start they publish; "" where it is none."""
    return next((name for name, found in arch.published.items() if sha256.startswith(found.prefix)), "")


def load(arch: Architecture, asked: str, crop: int | None = None) -> dict[str, "Tensor"]:
    """The tensors, as `load_noted` gives them."""
    return load_noted(arch, asked, crop)[0]


def load_noted(arch: Architecture, asked: str, crop: int | None = None) -> tuple[dict[str, "Tensor"], str]:
    """The tensors, float32, in torchvision's names, without a classifier; and which others their file holds, or "".

    `crop`: the edge of the images that they are for, pixels; None: that of the transform that belongs to them.

    Raises:
        MachineError: out of reach, damaged, no checkpoint, or of another network; the message says what to do.
    """
    crop = crop or transform_of(arch, asked).crop
    tensors: Mapping[str, Any]
    note = ""
    match weights_kind(arch, asked):
        case "random":
            tensors = _random(arch)
        case "published":
            tensors = _download(arch, asked)
        case _:
            file = Path(expand_home(asked))
            tensors, note = _pick(file, checkpoints.read(file), arch, crop)
    return _fit(tensors, arch, crop, asked), note


def digest(tensors: Mapping[str, "Tensor"]) -> str:
    """sha256 over the tensors: sorted by name, each with its name, shape and bytes; 64 hex digits."""
    running = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].contiguous().numpy()
        running.update(f"{name} {array.shape} {array.dtype}\n".encode())
        running.update(array.data)
    return running.hexdigest()


def network(arch: Architecture, crop: int) -> Any:
    """Torchvision's own module for this architecture, its classifier removed; on the meta device where that is set."""
    from torch.nn import Identity
    from torchvision.models import VisionTransformer

    built = VisionTransformer(
        image_size=crop,
        patch_size=arch.patch,
        num_layers=arch.depth,
        num_heads=arch.heads,
        hidden_dim=arch.dim,
        mlp_dim=arch.mlp,
    )
    built.heads = Identity()
    return built


def _random(arch: Architecture) -> dict[str, "Tensor"]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        found: dict[str, Tensor] = network(arch, arch.transform.crop).state_dict()
    return found


def _download(arch: Architecture, asked: str) -> dict[str, "Tensor"]:
    """Torchvision's way, with its progress bar and hash check; the check comes first where the file is there."""
    import torchvision

    file = file_of(arch, asked)
    assert file is not None  # noqa: S101 (published weights have a file)
    prefix = arch.published[asked].prefix
    # torch.hub checks what it downloads, not what it finds.
    if file.exists() and not sha256_of(file).startswith(prefix):
        raise MachineError(f"{file}: its sha256 does not start with {prefix}: damaged. Remove it; it is fetched anew.")
    try:
        with _patience(_TIMEOUT), redirect_stdout(sys.stderr):  # stdout is for results, and torch.hub writes there
            weights = torchvision.models.get_model_weights(arch.name)[asked]
            found: dict[str, Tensor] = weights.get_state_dict(
                model_dir=str(file.parent), progress=True, check_hash=True, weights_only=True
            )
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or str(error).splitlines()[0]
        raise MachineError(
            f"weights {asked} of {arch.name} are out of reach: {reason}. Copy {file.name} to {file.parent} "
            f"from a machine with a network, or name a file with --weights FILE; --weights random runs the "
            f"pipeline without a trained trunk."
        ) from None
    return found


def _pick(file: Path, document: Any, arch: Architecture, crop: int) -> tuple[Mapping[str, Any], str]:
    """The one set of weights in a checkpoint that is this architecture's; where none is, the one that is most like it.

    With it comes what `further.note` says of the tensors beside it.

    Raises:
        MachineError: no tensors, or several such sets.
    """
    expected = arch.shapes(crop)
    sets = checkpoints.weights_in(document)
    if not sets:
        raise MachineError(
            f"weights {file}: it holds a {type(document).__name__} without tensors, expected a state dict (names to "
            f"tensors)"
        )

    def likeness(found: checkpoints.Weights) -> tuple[int, int]:
        tensors = _named(found.tensors)
        return sum(_described(tensors.get(n)) == str(shape) for n, shape in expected.items()), len(tensors)

    def fits(found: checkpoints.Weights) -> bool:
        return likeness(found)[0] == len(expected)

    def same(one: checkpoints.Weights, other: checkpoints.Weights) -> bool:
        mine, yours = _named(one.tensors), _named(other.tensors)
        return all(bool((mine[name] == yours[name]).all()) for name in expected)

    chosen = checkpoints.choose(file, sets, fits, same)
    if chosen is None:
        return max(sets, key=likeness).tensors, ""
    return chosen.tensors, further.note(document, [found for found in sets if fits(found)])  # they are the same


def _named(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The names that torchvision has today, without the classifier."""
    found = {n.replace("mlp.linear_1", "mlp.0").replace("mlp.linear_2", "mlp.3"): v for n, v in tensors.items()}
    return {name: value for name, value in found.items() if not name.startswith("heads.")}


def _fit(tensors: Mapping[str, Any], arch: Architecture, crop: int, asked: str) -> dict[str, "Tensor"]:
    """Exactly the architecture's tensors, or one error that names what differs."""
    import torch

    expected = arch.shapes(crop)  # importing torchvision, which has them too, takes seconds
    found = _named(tensors)
    missing = [name for name in expected if name not in found]
    foreign = [name for name in found if name not in expected]
    given = {name: _described(found[name]) for name in expected if name in found}
    shaped = [
        f"{name} is {is_}, expected {expected[name]}" for name, is_ in given.items() if is_ != str(expected[name])
    ]
    problems = [f"{len(missing)} tensors missing (first: {missing[0]})"] if missing else []
    problems += [f"{len(foreign)} that {arch.name} does not have (first: {foreign[0]})"] if foreign else []
    problems += [f"{len(shaped)} of another shape (first: {shaped[0]})"] if shaped else []
    if problems:
        shapes = {name: tuple(value.shape) for name, value in tensors.items() if torch.is_tensor(value)}
        raise MachineError(
            f"weights {asked}: not those of torchvision's {arch.name} at {crop} pixels: {'; '.join(problems)}. "
            f"{formats.recognise(shapes) or 'Name the weights of this architecture, or the architecture of these.'}"
        )
    ready = {name: found[name].detach().to(torch.float32) for name in expected}
    broken = [name for name, value in ready.items() if not bool(value.isfinite().all())]
    if broken:
        raise MachineError(
            f"weights {asked}: {len(broken)} tensors hold nan or inf (first: {broken[0]}); save them again"
        )
    return ready


def _described(value: Any) -> str:
    """The shape of a plain tensor of floating-point numbers; of anything else, what it is."""
    import torch

    if not torch.is_tensor(value):
        return type(value).__name__
    if value.is_nested or value.layout != torch.strided or value.device.type != "cpu" or not value.is_floating_point():
        return f"a {value.device.type} tensor, {value.layout}, {value.dtype}"
    return str(tuple(value.shape))


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file's bytes, 64 hex digits.

    Raises:
        MachineError: it cannot be read, or is no regular file.
    """
    try:
        return hash_file(file, follow_links=True).hex()
    except OSError as error:
        raise MachineError(f"weights {file}: cannot be read: {error.strerror}") from None


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """A time limit on every network read: torch.hub sets none, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def reachable(arch: Architecture, asked: str, seconds: float) -> bool:
    """Whether published weights are on disk, or their server answers within `seconds`, name look-up included."""
    import torchvision

    file = file_of(arch, asked)
    if file is not None and file.exists():
        return True
    url = torchvision.models.get_model_weights(arch.name)[asked].url
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (torchvision's own https address)
        with suppress(OSError), urllib.request.urlopen(request, timeout=seconds) as found:  # noqa: S310
            answers.append(found.status == 200)

    asking = threading.Thread(target=ask, daemon=True)  # a name look-up knows no time limit: it is left behind
    asking.start()
    asking.join(seconds)
    return any(answers)
