"""The flags that name the trunks of a report in its commands, in any folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featcache.recipe import Recipe
from featcache.report.page.head_on_rows import HeadOnRows
from featcache.store import FeatureStore, find_stores, flags_that_name, label_features, trunk_without_layer
from featcache.trunks import ARCHITECTURES, DECODERS, PRECISION, WeightsMemo, stored_type

Flag = tuple[str, object]  # its name and its value


@dataclass(frozen=True)
class TrunkFlags:
    """One store, and the flags that name its trunk."""

    store: FeatureStore  # of one trunk
    recipe: Recipe

    @cached_property
    def weights(self) -> str:
        """What --weights takes in any folder; of weights of which only the name is known, that."""
        record, paths = self.store.trunk, self._paths
        if paths:
            return next((name for name in paths if os.path.isfile(name)), paths[0])
        return record.weights_path or record.weights_name

    @property
    def comment(self) -> str:
        """A comment where it is not known in which folder the weights are; else ""."""
        record = self.store.trunk
        if self._paths or record.weights_path or not Path(record.weights_name).suffix:
            return ""
        return f"# of the weights the store knows the file's name alone: put its folder before {record.weights_name}"

    @cached_property
    def _paths(self) -> list[str]:
        """Where the file of the weights is, or was, by its whole name; none of weights that are no file."""
        record = self.store.trunk
        memo, key = WeightsMemo(self.store.cache).entries(), (record.spec.arch, record.spec.weights_sha256)
        names = [record.weights_path, *(name for arch, name, sha256 in memo if (arch, sha256) == key)]
        return [name for name in names if name.startswith("/") and name.endswith(f"/{record.weights_name}")]

    @property
    def chosen(self) -> list[Flag]:
        """Weights and precision, as later commands take them."""
        compute = self.store.trunk.spec.compute
        return [("--weights", self.weights), ("--precision", next(w for w, c in PRECISION.items() if c == compute))]

    def network_flags(self) -> list[Flag]:
        """Return the flags that name the network and its layer, and not its weights."""
        return self._network([self.store.trunk.spec.layer])

    def extract(self, layers: Sequence[str]) -> list[Flag]:
        """Return the flags with which extract makes the stores of this trunk.

        Args:
            layers: Theirs.
        """
        spec, trunk = self.store.trunk.spec, self.recipe.trunk
        decode = next(word for word, decoder in DECODERS.items() if decoder == spec.decoder)
        flags = [*self._network(layers), *self.chosen]
        flags += [("--stored", spec.stored)] if spec.stored != stored_type(trunk.stored, spec.layer) else []
        return flags + ([("--decode", decode)] if decode != trunk.decode else [])

    def _network(self, layers: Sequence[str]) -> list[Flag]:
        """Return the flags that name the network and its layers in any folder."""
        spec = self.store.trunk.spec
        if spec.arch in ARCHITECTURES and list(layers) == ["cls"]:
            return [("--arch", spec.arch)]
        remembered = WeightsMemo(self.store.cache).settings_of(spec.arch, spec.weights_sha256)
        settings = remembered[0] if remembered else {}
        flags: list[Flag] = [("--arch", settings.get("arch", spec.arch)), *(("--layer", layer) for layer in layers)]
        return [*flags, ("--image-size", settings.get("image_size")), ("--transform", settings.get("transform"))]


def extracts_of_trunks(trunks: Sequence[TrunkFlags]) -> list[list[Flag]]:
    """Return the flags of the extract of each trunk, with all of its layers that are used.

    Args:
        trunks: Of each store, in the order of their columns.
    """
    of_trunk: dict[object, list[TrunkFlags]] = {}
    for trunk in trunks:
        of_trunk.setdefault(trunk_without_layer(trunk.store.trunk.spec), []).append(trunk)
    return [group[0].extract([one.store.trunk.spec.layer for one in group]) for group in of_trunk.values()]


def name_features(head_on_split: HeadOnRows, trunks: Sequence[TrunkFlags]) -> list[Flag]:
    """Return the flags by which a later command finds the features of a head.

    Args:
        head_on_split: The head and the split.
        trunks: Of each store of its features, in the order of their columns.
    """
    request, parts = head_on_split.request, head_on_split.store.parts
    stores = [
        store
        for store in find_stores(request.folder, request.stat_log)
        if request.keys_of(store) and store.trunk.spec.view is None
    ]
    if len(parts) == 1:
        told_apart = flags_that_name(parts[0], stores)
        return [*trunks[0].chosen, *(flag for flag in told_apart if flag[0] in ("--arch", "--layer"))]
    if len({trunk_without_layer(store.trunk.spec) for store in stores}) == 1:
        return [("--features", label_features(parts))]
    names = [(store.trunk.spec.arch, store.trunk.spec.layer) for store in stores]
    is_by_arch = all(names.count((part.trunk.spec.arch, part.trunk.spec.layer)) == 1 for part in parts)
    trunks_of_parts = [part.trunk.spec.arch if is_by_arch else part.name for part in parts]
    words = [f"{trunk}/{part.trunk.spec.layer}" for trunk, part in zip(trunks_of_parts, parts, strict=True)]
    return [("--features", "+".join(words))]
