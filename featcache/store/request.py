"""Which stores a command means: what its flags and its recipe say of the trunk, held against each store."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from featcache.errors import CacheError, FeatcacheError
from featcache.files import kind_of
from featcache.store.store import FeatureStore
from featcache.trunks import ARCHITECTURES, RANDOM, WeightsMemo, weights_kind

_MISSING = "is not here"
_PRECISION = {"float32": "fp32", "bfloat16": "bf16"}
_DECODE = {"pillow": "exact", "pillow-fast": "fast", "nvjpeg": "gpu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """What a store must be to be meant. A setting that neither a flag nor the recipe states is not held."""

    store: str | None = None  # its folder's name, or the start of its fingerprint
    typed: Mapping[str, str] = field(default_factory=dict)  # settings of the trunk that are flags
    stated: Mapping[str, str] = field(default_factory=dict)  # those that the recipe states, and no flag replaces

    def differences(self, found: FeatureStore) -> dict[str, str]:
        """What this store has instead of what is asked for, by setting; empty where it is what is asked for."""
        if self.store is not None and not is_named(found.name, found.trunk.spec.fingerprint(), self.store):
            return {"store": found.name}
        held = settings_of(found)
        wanted = {**self.stated, **self.typed}
        differing = {
            name: held[name]
            for name, value in wanted.items()
            if name != "weights" and value not in (held[name], *(("auto",) if name == "precision" else ()))
        }
        if not differing and "weights" in wanted:  # last: a file may have to be read
            # A bare name that is typed may be the one that a store is shown by.
            label = "weights" in self.typed and os.sep not in wanted["weights"]
            other = _other_weights(found, wanted["weights"], label=label)
            differing = {} if other is None else {"weights": held["weights"] + other}
        return differing

    def fits(self, found: FeatureStore) -> bool:
        """Whether a store is what is asked for."""
        return not self.differences(found)

    def refuse(self, where: str, what: str, others: Sequence[FeatureStore], also: str = "") -> NoReturn:
        """Say of the settings that differ what is asked for, and what each of these stores has instead.

        Raises:
            CacheError: always.
        """
        differing = {found.name: self.differences(found) for found in others}
        names = dict.fromkeys(name for settings in differing.values() for name in settings)
        flags = {"store": self.store, **self.typed}
        asked = [f"--{name} {flags[name]} was typed" for name in names if flags.get(name) is not None]
        asked += [f"the recipe says {name} = {self.stated[name]!r}" for name in names if name in self.stated]
        there = [
            f"store {name} has {', '.join(f'{setting} {value}' for setting, value in settings.items())}"
            if "store" not in settings
            else f"there is store {name}"
            for name, settings in differing.items()
        ]
        raise CacheError(
            f"{where}: no store that holds {what} is what was asked for: {', '.join(asked)}; {', '.join(there)}; "
            f"run `featcache extract` with the trunk that is meant, or name a store with --store{also}"
        )


def is_named(name: str, fingerprint: str, wanted: str) -> bool:
    """Whether `wanted` is a store's folder name, or the start of its fingerprint."""
    return wanted == name or (wanted != "" and fingerprint.startswith(wanted))


def settings_of(store: FeatureStore) -> dict[str, str]:
    """A store's trunk in the words of a recipe's [trunk] section."""
    spec = store.trunk.spec
    return {
        "arch": spec.arch,
        "weights": store.trunk.asked,
        "precision": _PRECISION[spec.compute],
        "decode": _DECODE[spec.decoder],
        "stored": spec.stored,
        "exif": spec.transform.exif,
    }


def _other_weights(found: FeatureStore, wanted: str, *, label: bool) -> str | None:
    """None where these weights made the store; else what is known of the difference, to stand behind their name.

    Tensors are compared, by their sha256, wherever it can be had; names, where it cannot.
    """
    spec, asked, memo = found.trunk.spec, found.trunk.asked, WeightsMemo(found.cache)
    arch = ARCHITECTURES.get(spec.arch)
    try:
        sort = weights_kind(arch, wanted) if arch is not None else "file"
    except FeatcacheError:  # the name of a file that was given without its folder, or nobody's
        sort = "unknown"
    if sort == "file":
        return _other_file(found, Path(wanted), memo, label=label)
    if sort == "published":
        known = memo.find(spec.arch, wanted, None, vouched=True)
        same = wanted == asked if known is None else known == spec.weights_sha256
        return None if same else ""
    same = wanted == asked
    if sort == "random" and not same:  # the same tensors in a file are random weights too
        same = any(
            (name, sha256) == (spec.arch, spec.weights_sha256) and of.startswith(f"{RANDOM} ")
            for name, of, sha256 in memo.entries()
        )
    return None if same else ""


def _other_file(found: FeatureStore, file: Path, memo: WeightsMemo, *, label: bool) -> str | None:
    spec, asked = found.trunk.spec, found.trunk.asked
    problem = _problem(file)
    if not problem:
        try:
            sha256 = memo.find(spec.arch, str(file), file, vouched=False) or _sha256(spec.arch, str(file), found.cache)
        except FeatcacheError as error:
            return f" ({error})"
        return None if sha256 == spec.weights_sha256 else " (other tensors)"
    before = [sha256 for arch, name, sha256 in memo.entries() if (arch, name) == (spec.arch, str(file.absolute()))]
    same = spec.weights_sha256 in before if before else file.name == asked
    if same and label:
        return None
    if not same or problem != _MISSING:
        return f" ({file} {problem})"
    how = "what this cache remembers of that file" if before else "their name alone"
    warnings.warn(f"weights {file}: no such file; taken for those of store {found.name} by {how}", stacklevel=2)
    return None


def _problem(file: Path) -> str:
    """Why no weights can be read from a file, as what is said of it; "" where it is a regular file."""
    try:
        kind = kind_of(os.stat(file).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return _MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return f"is {kind}, expected a file" if kind else ""


def _sha256(arch: str, weights: str, cache: Path) -> str:
    """The sha256 of the tensors in a file that this cache has not seen yet; it remembers it from now on."""
    from featcache.trunks import tensors_sha256  # which takes urllib along: stage two seldom comes here

    return tensors_sha256(arch, weights, WeightsMemo(cache))
