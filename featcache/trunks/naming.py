"""Which trunk a recipe means, and where the weights of a store are."""

import contextlib
from pathlib import Path
from typing import Any

from featcache.errors import CacheError, FeatcacheError, MachineError, UsageError
from featcache.files import expand_home
from featcache.files.objects import ObjectPath, bring_here
from featcache.media import ImageTransform
from featcache.recipe import TrunkSection, is_import_path, is_network_object
from featcache.trunks import weights
from featcache.trunks.architectures import ARCHITECTURES, RANDOM
from featcache.trunks.source import DECODERS, TrunkSource
from featcache.trunks.spec import TrunkSpec
from featcache.trunks.vit_layers import is_vit_layer
from featcache.trunks.weights_memo import WeightsMemo

FINETUNED_FOLDER = "finetuned"  # below a cache: the weights of trunks that were trained in it
_MOST_BYTES = 1 << 36  # of such a file


def name_trunk(section: TrunkSection, memo: WeightsMemo, transform: ImageTransform | None = None) -> TrunkSource:
    """Return the trunk that is asked for; nothing is read yet.

    Args:
        section: The recipe's [trunk] section.
        memo: The cache's memory of weights' hashes.
        transform: That of a store that is there, where it is not to be what the weights would get today.

    Raises:
        UsageError: no such architecture, no such weights, or layers that no one forward has.
    """
    if section.arch in ARCHITECTURES and not section.changes_input:
        others = [layer for layer in section.layer if not is_vit_layer(layer)]
        if not others:
            return TrunkSource(section, memo, transform)
        from featcache.trunks.libraries import check_layer

        others = list(map(check_layer, others))
        if len(others) < len(section.layer):
            raise UsageError(
                f"layer {others[0]}: of {section.arch} it is read from torchvision's own forward, the others are not; "
                f"extract it in a run of its own"
            )
    from featcache.trunks.libraries import LibrarySource

    return LibrarySource(section, memo, transform)


def _refuse_import(arch: str, typed: str | None) -> None:
    """Refuse to import a module that only a cache names: importing runs code, and a cache may be anybody's.

    Raises:
        CacheError: a trunk of this name would be imported, and nobody has typed it.
    """
    if is_network_object(arch) and typed != arch:
        raise CacheError(f"trunk {arch} is a torch.nn.Module of a Python program: pass the same module there, as arch=")
    if is_import_path(arch) and typed != arch:
        raise CacheError(
            f"trunk {arch} is a module of your own: it is imported, which runs its code, only where it is typed. Add "
            f"--arch {arch}"
        )


def tensors_sha256(arch: str, file: str, memo: WeightsMemo) -> str:
    """Return the sha256 of an architecture's tensors in a file, 64 hex digits.

    What was read is remembered where the cache can be written.

    Args:
        arch: The architecture's name.
        file: The checkpoint.
        memo: The cache's memory of weights' hashes.

    Raises:
        UsageError: no such architecture, or a name that is no file's.
        MachineError: it is no checkpoint of this architecture; the message says what it is.
        CacheError: the architecture is a module of one's own, which is not imported for this.
    """
    _refuse_import(arch, None)
    source = name_trunk(TrunkSection(arch=arch, weights=file), memo)
    sha256 = weights.hash_tensors(source.tensors)
    with contextlib.suppress(MachineError):  # a cache that cannot be written to can still be read
        source.remember(file, sha256)
    return sha256


def _input_settings(spec: TrunkSpec) -> dict[str, Any]:
    """Return the settings of a network that was built for the images of a spec, where that is not its own size."""
    settings: dict[str, Any] = {"image_size": spec.transform.crop}
    return {**settings, "interpolate_positions": True} if spec.positions == "interpolated" else settings


def _finetuned(cache: Path, sha256: str) -> list[str]:
    """Return the files of a cache that may hold these tensors, of a trunk that was fine-tuned in it."""
    paths: list[Path] = sorted((cache / FINETUNED_FOLDER).glob(f"*-{sha256[:8]}.safetensors"))
    here = [bring_here(path, cache, _MOST_BYTES) if isinstance(path, ObjectPath) else path for path in paths]
    return [str(path) for path in here if path is not None]


def missing_weights(what: str, weights_name: str, cache: Path) -> CacheError:
    """Return the error that the weights of a store are not on this machine, with the way to them.

    Args:
        what: Whose they are: "the trunk of head best".
        weights_name: How the store calls them.
        cache: The cache that the store is in.
    """
    sentence = f"{what} is not here: its weights are {weights_name}. "
    if isinstance(cache, ObjectPath) and (cache / FINETUNED_FOLDER / weights_name).is_file():
        error = CacheError(f"{sentence}They are in the bucket, and --local-cache FOLDER brings them to this machine.")
        return error.correct("--local-cache", "local")
    return CacheError(f"{sentence}Name their file with --weights.")


def find_weights(
    spec: TrunkSpec, asked: str, memo: WeightsMemo, typed: str | None, arch: str | None = None
) -> TrunkSource | None:
    """Return the weights that made a spec; None where those are not here, or are others.

    They are looked for as typed; else where the cache remembers that they were, and by their name.

    Args:
        spec: The identity of a store.
        asked: How its weights were asked for, as the store has it.
        memo: The cache's memory of weights' hashes.
        typed: `--weights`, or None.
        arch: `--arch`, or None. A module of one's own is imported only where it says so.

    Raises:
        FeatcacheError: what was typed is none of this architecture's; or it is a module that nobody has typed.
    """
    _refuse_import(spec.arch, arch)
    remembered = [name for arch, name, sha256 in memo.entries() if (arch, sha256) == (spec.arch, spec.weights_sha256)]
    named: list[dict[str, Any]] = [
        {"arch": spec.arch, "weights": RANDOM if name.startswith(f"{RANDOM} ") else name}
        for name in ([typed] if typed else [*remembered, asked, *_finetuned(memo.cache, spec.weights_sha256)])
    ]
    sized = [{**settings, **_input_settings(spec)} for settings in named if not is_import_path(spec.arch)]
    further = {"stored": spec.stored, "exif": spec.transform.exif, "layer": spec.layer}
    decode = next(word for word, decoder in DECODERS.items() if decoder == spec.decoder)
    refusals: list[FeatcacheError] = []
    for settings in [*memo.settings_of(spec.arch, spec.weights_sha256), *named, *sized]:
        try:
            stated = {**settings, "weights": expand_home(typed)} if typed else settings
            section = TrunkSection(**{**stated, **further}, decode=decode)
            source = name_trunk(section, memo, spec.transform)
            if source.spec(spec.compute, view=spec.view) == spec:
                return source
        except FeatcacheError as error:
            if settings not in sized:  # a size that nobody stated is only tried
                refusals.append(error)
    if typed and refusals:
        raise refusals[0]
    return None
