"""Which stores a command means: what its flags and its recipe say of the trunk, held against each store."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from featcache.errors import CacheError, FeatcacheError
from featcache.files import describe_kind
from featcache.recipe import is_own_weights
from featcache.store.store import FeatureStore
from featcache.trunks import ARCHITECTURES, RANDOM, TrunkSpec, WeightsMemo, weights_kind

STORE_SETTINGS = ("arch", "layer", "precision", "weights")  # of the trunk, that commands have flags for
_OPEN = ("layer", "precision", "stored")  # of these, "auto" is any
_MISSING = "is not here"
PRECISION_WORDS = {"float32": "fp32", "bfloat16": "bf16"}
_DECODE = {"pillow": "exact", "pillow-fast": "fast", "nvjpeg": "gpu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """What a store must be to be meant. A setting that neither a flag nor the recipe states is not held."""

    store: str | None = None  # its folder's name, or the start of its fingerprint
    typed: Mapping[str, str] = field(default_factory=dict)  # settings of the trunk that are flags
    stated: Mapping[str, Any] = field(default_factory=dict)  # those that the recipe states, and no flag replaces

    def may_mean(self, store: FeatureStore) -> bool:
        """Whether a store is one of plain images: one of their views is meant only where it is named outright.

        Args:
            store: Any of the cache.
        """
        return self.store is not None or all(part.trunk.spec.view is None for part in store.parts)

    def differences(self, store: FeatureStore) -> dict[str, str]:
        """Return what a store has instead of what is asked for, by setting; empty where it is what is asked for.

        Args:
            store: One that may be meant. Where the weights are a file that this cache has not seen, the file is read.

        Warns:
            UserWarning: the weights are a file that is gone, and are taken for the store's by their name.
        """
        fingerprint = store.fingerprint if len(store.parts) == 1 else ""  # several together go by their name alone
        if self.store is not None and not is_named(store.name, fingerprint, self.store):
            return {"store": store.name}
        differing: dict[str, str] = {}
        for part in store.parts:  # of several side by side, each must be what is asked for
            differing |= self._differences_of_trunk(part)
        return differing

    def _differences_of_trunk(self, store: FeatureStore) -> dict[str, str]:
        held = trunk_settings(store)
        wanted = {**self.stated, **self.typed}
        differing = {
            name: held[name]
            for name, value in wanted.items()
            if name in held and name != "weights" and not _is_meant(name, value, held[name])
        }
        if not differing and "weights" in wanted:  # last: a file may have to be read
            # A bare name that is typed may be the one that a store is shown by.
            label = "weights" in self.typed and os.sep not in wanted["weights"]
            other = _other_weights(store, wanted["weights"], label=label)
            differing = {} if other is None else {"weights": held["weights"] + other}
        return differing

    def is_met_by(self, store: FeatureStore) -> bool:
        """Whether a store is what is asked for.

        Args:
            store: One that may be meant, as for `differences`.
        """
        return not self.differences(store)

    def refuse(self, where: str, what: str, others: Sequence[FeatureStore], also: str = "") -> NoReturn:
        """Raise an error that says of the settings that differ what is asked for, and what each store has instead.

        Args:
            where: The cache.
            what: What the stores hold.
            others: The stores, none of which meets this request.
            also: What else is to be said.

        Raises:
            CacheError: always.
        """
        differing = {store.name: self.differences(store) for store in others}
        names = dict.fromkeys(name for settings in differing.values() for name in settings)
        if names.keys() == {"layer"}:
            held_layers = ", ".join(dict.fromkeys(settings["layer"] for settings in differing.values()))
            layers = _values({**self.stated, **self.typed}["layer"])
            raise CacheError(
                f"{where}: no store that holds {what} has layer {' or '.join(layers)}; there is {held_layers}: name "
                f"one with --layer, or run `featcache extract` with --layer {layers[0]} to add it{also}"
            )
        flags = {"store": self.store, **self.typed}
        wanted = [f"--{name} {flags[name]} was typed" for name in names if flags.get(name) is not None]
        wanted += [
            f"the recipe says {name} = {list(value) if isinstance(value, tuple) else value!r}"
            for name, value in self.stated.items()
            if name in names
        ]
        held = [
            f"store {name} has {', '.join(f'{setting} {value}' for setting, value in settings.items())}"
            if "store" not in settings
            else f"there is store {name}"
            for name, settings in differing.items()
        ]
        raise CacheError(
            f"{where}: no store that holds {what} matches what was asked for: {', '.join(wanted)}; {', '.join(held)}; "
            f"run `featcache extract` with the trunk that is meant, or name a store with --store{also}"
        )


def is_named(name: str, fingerprint: str, wanted: str) -> bool:
    """Whether `wanted` is a store's folder name, or the start of its fingerprint.

    Args:
        name: The store's folder name.
        fingerprint: Of the store's trunk, 64 hex digits.
        wanted: What a person typed; "" names no store.
    """
    return wanted == name or (wanted != "" and fingerprint.startswith(wanted))


def trunk_settings(store: FeatureStore) -> dict[str, str]:
    """Return a store's trunk in the words of a recipe's [trunk] section."""
    spec = store.trunk.spec
    return {
        "arch": spec.arch,
        "layer": spec.layer,
        "weights": store.trunk.weights_name,
        "precision": PRECISION_WORDS[spec.compute],
        "decode": _DECODE[spec.decoder],
        "stored": spec.stored,
        "exif": spec.transform.exif,
    }


def flags_that_name(store: FeatureStore, others: Sequence[FeatureStore]) -> list[tuple[str, str]]:
    """Return the flags that tell a store from others, as few as do; none where there are no others.

    Args:
        store: The one that is meant.
        others: Stores, it may be one of them.
    """
    left = [other for other in others if other.name != store.name]
    own, flags = trunk_settings(store), list[tuple[str, str]]()
    for name in STORE_SETTINGS:
        alike = [other for other in left if trunk_settings(other)[name] == own[name]]
        if len(alike) < len(left):
            flags.append((f"--{name}", own[name]))
        left = alike
    return [("--store", store.name)] if left else flags


def _is_meant(name: str, wanted: object, held: str) -> bool:
    """Return whether a setting of a store is what is wanted: one value, or one of several."""
    values = _values(wanted)
    if name == "arch":  # of a folder, a store has the folder's own name
        values = [
            f"hf:{Path(value[3:]).name}" if value.startswith("hf:") and os.sep in value else value for value in values
        ] + values
    return held in values or ("auto" in values and name in _OPEN)


def _values(wanted: object) -> list[str]:
    return [str(value) for value in wanted] if isinstance(wanted, tuple) else [str(wanted)]


def _other_weights(store: FeatureStore, wanted: str, *, label: bool) -> str | None:
    """Return None where these weights made the store; else what is known of the difference, behind their name.

    Tensors are compared, by their sha256, wherever it can be had; names, where it cannot.
    """
    spec, name, memo = store.trunk.spec, store.trunk.weights_name, WeightsMemo(store.cache)
    if is_own_weights(spec.arch, wanted) and is_own_weights(spec.arch, name):  # their name in earlier versions, too
        return None
    arch = ARCHITECTURES.get(spec.arch)
    try:
        sort = weights_kind(arch, wanted) if arch is not None else "file"
    except FeatcacheError:  # the name of a file that was given without its folder, or nobody's
        sort = "unknown"
    if sort == "file":
        return _other_file(store, Path(wanted), memo, label=label)
    if sort == "published":
        sha256 = memo.find(spec.arch, wanted, None, vouched=True)
        same = wanted == name if sha256 is None else sha256 == spec.weights_sha256
        return None if same else ""
    same = wanted == name
    if sort == "random" and not same:  # the same tensors in a file are random weights too
        same = any(
            (arch_name, sha256) == (spec.arch, spec.weights_sha256) and weights.startswith(f"{RANDOM} ")
            for arch_name, weights, sha256 in memo.entries()
        )
    return None if same else ""


def _other_file(store: FeatureStore, file: Path, memo: WeightsMemo, *, label: bool) -> str | None:
    """Return what `_other_weights` does, of weights that are a file."""
    spec, weights_name = store.trunk.spec, store.trunk.weights_name
    problem = _find_problem(file)
    if not problem and memo.is_remembered(spec.arch, spec.weights_sha256, file):
        return None
    if not problem:
        try:
            return None if _made_from(spec, file, memo) else " (other tensors)"
        except FeatcacheError as error:
            return f" ({error})"
    before = [sha256 for arch, name, sha256 in memo.entries() if (arch, name) == (spec.arch, str(file.absolute()))]
    same = spec.weights_sha256 in before if before else file.name == weights_name
    if same and label:
        return None
    if not same or problem != _MISSING:
        return f" ({file} {problem})"
    how = "what this cache remembers of that file" if before else "their name alone"
    warnings.warn(f"weights {file}: no such file; taken for those of store {store.name} by {how}", stacklevel=2)
    return None


def _find_problem(file: Path) -> str:
    """Return why no weights can be read from a file, as what is said of it; "" where it is a regular file."""
    try:
        kind = describe_kind(os.stat(file).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return _MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return f"is {kind}, expected a file" if kind else ""


def _made_from(spec: TrunkSpec, file: Path, memo: WeightsMemo) -> bool:
    """Return whether a spec has the tensors of a file; one that this cache does not know is read, and remembered."""
    from featcache.trunks import find_weights, tensors_sha256  # which take urllib along: stage two seldom comes here

    if spec.arch not in ARCHITECTURES:  # what else than the file names a library's network, the cache may know
        return find_weights(spec, file.name, memo, str(file)) is not None
    known = memo.find(spec.arch, str(file), file, vouched=False)
    sha256: str = known or tensors_sha256(spec.arch, str(file), memo)
    return sha256 == spec.weights_sha256
