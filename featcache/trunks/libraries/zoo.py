"""What `--arch` can name on this machine, and what is known of it without its weights."""

import difflib
import fnmatch
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from featcache.errors import UsageError
from featcache.recipe import CNN
from featcache.trunks import ARCHITECTURES, WeightsMemo
from featcache.trunks.libraries.base import LIBRARY_PACKAGES
from featcache.trunks.libraries.facts import library_version
from featcache.trunks.libraries.local_weights import find_local_weights

LIMIT = 20  # networks that are built, without weights, to count their parameters
_NEAREST = 5  # names that are suggested for one that there is not


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTrunk:
    """A network that can be named, and what is known of it; None where it was not looked up."""

    arch: str  # as `--arch` takes it
    width: int | None = None  # of its pooled layer
    parameters: int | None = None  # but for the classifier's
    input_size: tuple[int, int] | None = None  # (height, width), pixels
    weights: tuple[str, ...] = ()  # on this machine, as `--weights` takes them

    def to_json(self) -> dict[str, Any]:
        """Return an entry of `featcache trunks --json`."""
        size = None if self.input_size is None else list(self.input_size)
        return {**asdict(self), "input_size": size, "weights": list(self.weights)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooLibrary:
    """A library whose networks can be named."""

    name: str
    named_as: str  # examples
    version: str | None  # None where it is not installed …
    install: str  # … and what to type then; "" where nothing is missing
    models: int | None  # names that it has; None where there is no list, or it is not installed


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkList:
    """What a pattern matches, or of no pattern the libraries and what has weights on this machine."""

    pattern: str | None
    libraries: tuple[ZooLibrary, ...]
    trunks: tuple[NamedTrunk, ...]
    details: int  # of `trunks`, how many were looked up

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache trunks --json`."""
        return {
            "pattern": self.pattern,
            "libraries": [asdict(library) for library in self.libraries],
            "trunks": [trunk.to_json() for trunk in self.trunks],
        }


def list_trunks(pattern: str | None = None, *, memo: WeightsMemo, limit: int = LIMIT) -> TrunkList:
    """Return the networks that a pattern matches.

    Nothing is downloaded, and no network is given weights: the first `limit` of the matches are built on torch's meta
    device, which has shapes and no memory, and run there once.

    Args:
        pattern: A part of the name, or a pattern with asterisks; None: only what has weights on this machine.
        memo: The cache's memory of weights.
        limit: Of how many the width, the parameters and the input size are found.

    Raises:
        UsageError: nothing matches; the message names what is near.
    """
    names = all_names()
    here = find_local_weights(names, memo)
    matching = list(here) if pattern is None else match_names(pattern, [*names, *here])
    if pattern is not None and not matching:
        raise no_trunk_error(f"no network is called {pattern!r}{_missing_libraries()}", pattern)
    trunks = [
        _describe(arch, here.get(arch, ())) if number < limit else NamedTrunk(arch=arch, weights=here.get(arch, ()))
        for number, arch in enumerate(matching)
    ]
    return TrunkList(
        pattern=pattern, libraries=_libraries(names), trunks=tuple(trunks), details=min(limit, len(matching))
    )


def match_names(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that hold a text, or that a pattern with asterisks matches; those that are it come first.

    Args:
        pattern: As typed, in capitals or not.
        names: As `--arch` has them.
    """
    folded = pattern.casefold()
    unique = list(dict.fromkeys(names))
    if "*" in pattern:
        return [n for n in unique if any(fnmatch.fnmatchcase(part, folded) for part in _spellings(n))]
    matching = [name for name in unique if folded in name.casefold()]
    return sorted(matching, key=lambda name: folded not in _spellings(name))


def _spellings(name: str) -> tuple[str, ...]:
    """Return a name without capitals: whole, without its library, and without its weights' tag too."""
    folded = name.casefold()
    bare = folded.partition(":")[2] or folded
    return folded, bare, bare.partition(".")[0].partition("/")[0]


@cache
def all_names() -> tuple[str, ...]:
    """Return every name that the libraries list which are installed, as `--arch` takes it."""
    from featcache.trunks.libraries.models import LIBRARIES

    names: list[str] = [*ARCHITECTURES, CNN]
    for prefix, library in LIBRARIES.items():
        if _is_installed(prefix):
            names += [f"{prefix}:{name}" if prefix else name for name in library.match_names("")]
    return tuple(dict.fromkeys(names))


def no_trunk_error(problem: str, arch: str) -> UsageError:
    """Return the error that there is no such network, with the nearest of all libraries that are installed.

    Args:
        problem: What there is not.
        arch: As typed, with or without the library's prefix.
    """
    close = _near_trunks(arch)
    if not close:
        return UsageError(f"{problem}; `featcache trunks PART_OF_THE_NAME` lists what there is")
    return UsageError(f"{problem}; did you mean {' or '.join(close)}?").correct("--arch", close[0])


def guess_arch(file: str) -> str | None:
    """Return the network that a file of weights is named after, as `--arch` takes it; None where it is none.

    Args:
        file: Its path: `weights/tf_efficientnet_lite0.safetensors` is timm's network of that name.
    """
    stem, by_word = Path(file).name.casefold(), dict[str, str]()
    for name in all_names():
        bare = _spellings(name)[2]
        if name != CNN and stem.startswith(bare) and not stem[len(bare) : len(bare) + 1].isalnum():
            by_word.setdefault(bare, name.partition(".")[0].partition("/")[0])
    return by_word[max(by_word, key=len)] if by_word else None


def _near_trunks(arch: str) -> list[str]:
    prefix, colon, word = arch.casefold().rpartition(":")
    by_word: dict[str, str] = {}
    for name in sorted(all_names(), key=lambda name: not name.startswith(prefix + colon)):  # of that library first
        bare = _spellings(name)[1]
        by_word.setdefault(bare, name)
        by_word.setdefault(bare.partition(".")[0].partition("/")[0], name.partition(".")[0].partition("/")[0])
    near = difflib.get_close_matches(word, by_word, n=_NEAREST, cutoff=0.7)
    return list(dict.fromkeys(by_word[found] for found in near))[:3]


def _describe(arch: str, weights: Sequence[str]) -> NamedTrunk:
    width, parameters, size = _measure(arch)
    return NamedTrunk(arch=arch, width=width, parameters=parameters, input_size=size, weights=tuple(weights))


def _measure(arch: str) -> tuple[int | None, int | None, tuple[int, int] | None]:
    """Return width, parameters and input size of a network that is built without memory; None of what fails."""
    import torch

    from featcache.trunks.libraries.registry import library_of

    if (own := ARCHITECTURES.get(arch)) is not None:
        return own.dim, own.frozen_parameters(), own.transform.input_size
    library, name = library_of(arch)
    if library.prefix == "open_clip":
        return _measure_open_clip(name)
    try:
        with torch.device("meta"), torch.inference_mode():
            network = library.load(name, "random", 0)
            size = None if network.transform is None else network.transform.input_size
            parameters = sum(value.numel() for value in network.module.parameters())
            pooled = None if size is None else network.forward(torch.zeros(1, 3, *size)).pooled
    except Exception:  # a network that must be built in memory, or needs files: it is listed without its numbers
        return None, None, None
    return None if pooled is None else pooled.shape[1], parameters, size


def _measure_open_clip(name: str) -> tuple[int | None, int | None, tuple[int, int] | None]:
    """Return what open_clip's own configuration says: its towers cannot be built without memory."""
    import open_clip

    config = open_clip.get_model_config(name.partition("/")[0]) or {}
    edge = config.get("vision_cfg", {}).get("image_size")
    size = (edge, edge) if isinstance(edge, int) else tuple(edge) if edge else None
    return config.get("embed_dim"), None, size


def _is_installed(prefix: str) -> bool:
    module = {"": "torchvision", "timm": "timm", "hf": "transformers", "open_clip": "open_clip", "module": "torch"}
    return importlib.util.find_spec(module[prefix]) is not None


_EXAMPLES = {
    "": "resnet50, vit_b_16",
    "timm": "timm:resnet50.a1_in1k",
    "hf": "hf:google/vit-base-patch16-224, hf:FOLDER",
    "open_clip": "open_clip:ViT-B-32/openai",
    "module": "package.module:callable",
}


def _libraries(names: Sequence[str]) -> tuple[ZooLibrary, ...]:
    libraries = []
    for prefix, example in _EXAMPLES.items():
        extra = LIBRARY_PACKAGES.get(prefix, "")
        installed = _is_installed(prefix)
        listed = sum((name.partition(":")[0] if ":" in name else "") == prefix for name in names if name != CNN)
        libraries.append(
            ZooLibrary(
                name={"": "torchvision", "hf": "transformers", "module": "your own"}.get(prefix, prefix),
                named_as=example,
                version=(library_version(prefix) if installed else None) if prefix != "module" else "",
                install="" if installed else f"pip install 'featcache[{extra}]'",
                models=listed if installed and listed else None,
            )
        )
    return tuple(libraries)


def _missing_libraries() -> str:
    missing = [
        f"{prefix}: pip install 'featcache[{extra}]'"
        for prefix, extra in LIBRARY_PACKAGES.items() if not _is_installed(prefix)
    ]  # fmt: skip
    return f" (not installed: {'; '.join(missing)})" if missing else ""
