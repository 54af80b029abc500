"""The files of a network of transformers: from a folder, or from the hub and its cache. Nothing in them is run."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featcache.errors import FeatcacheError, MachineError
from featcache.files import open_file
from featcache.text import counted
from featcache.trunks.checkpoints import read_checkpoint
from featcache.trunks.libraries.hub_reach import brief_hub

_CONFIG, _WEIGHTS, _INDEX, _PICKLED = (
    "config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
)  # fmt: skip
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_MAX_JSON = 1 << 24  # bytes
_NEEDED = "config.json, preprocessor_config.json and model.safetensors"


def find_folder(name: str, *, with_weights: bool) -> Path:
    """Return the folder that holds a network's files; those of a name on the hub are fetched, or taken from its cache.

    Args:
        name: A folder, or ORG/NAME on the hub.
        with_weights: Fetch the weights, too.

    Raises:
        MachineError: files are missing from the folder; the hub is out of reach, has no such network, or keeps it for
            those who accepted its terms.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        for files in ((_CONFIG,), _PROCESSORS):
            if not any((folder / file).is_file() for file in files):
                raise MachineError(
                    f"{name}: this folder has no {files[0]}; a network of transformers needs {_NEEDED}, as "
                    f"save_pretrained writes them"
                )
        return folder
    if os.sep == name[:1] or name[:1] in "~." or name.count("/") > 1:
        raise MachineError(f"hf:{name}: no such folder; expected hf:ORG/NAME, or a folder with {_NEEDED}")
    with _explain_hub(name):
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:  # what was fetched once is not asked for again: neither its time nor its owner's next version
            return _fetch(name, with_weights=with_weights, is_local=True)
        except LocalEntryNotFoundError:
            with brief_hub():
                return _fetch(name, with_weights=with_weights, is_local=False)


def _fetch(name: str, *, with_weights: bool, is_local: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def fetch(*files: str) -> Path:
        """Fetch the first of these that the network has."""
        for file in files[:-1]:
            try:
                return Path(hf_hub_download(name, file, local_files_only=is_local))
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError) and not is_local:
                    raise  # no network: the next file's time would be spent for nothing
        return Path(hf_hub_download(name, files[-1], local_files_only=is_local))

    config = fetch(_CONFIG)
    fetch(*_PROCESSORS)
    if with_weights and fetch(_WEIGHTS, _INDEX, _PICKLED).name == _INDEX:
        for shard in _shards(config.parent / _INDEX):
            fetch(shard)
    return config.parent


@contextmanager
def _explain_hub(name: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into one sentence.

    Raises:
        MachineError: anything was raised within.
    """
    from huggingface_hub import errors
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = f"models--{name.replace('/', '--')}"
    copy = (
        f"copy {_NEEDED} of it into a folder on a machine with a network, and name that with --arch hf:FOLDER (or copy "
        f"the folder {cached} of that machine's hub cache to {HF_HUB_CACHE})"
    )
    try:
        yield
    except FeatcacheError:
        raise
    except errors.GatedRepoError:
        raise MachineError(
            f"hf:{name} is gated: its owner gives the files only to those who accepted the terms on its page. Accept "
            f"them and log in with `hf auth login`, or {copy}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise MachineError(
            f"hf:{name}: the hub has no such network, or it is private: check the name, log in with `hf auth login`, "
            f"or {copy}"
        ) from None
    except errors.HFValidationError:
        raise MachineError(
            f"hf:{name}: no name that the hub can have, and no folder; expected hf:ORG/NAME, or a folder with {_NEEDED}"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise MachineError(f"hf:{name} is not in the hub's cache, and the hub is out of reach: {copy}") from None
    except errors.EntryNotFoundError as error:
        raise MachineError(f"hf:{name} lacks a file that is needed: {_first_line(error)}; it takes {_NEEDED}") from None
    except Exception as error:  # whatever its HTTP library raises
        raise MachineError(f"hf:{name} could not be fetched: {_first_line(error)}. Way out: {copy}") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__


def read_config(folder: Path, transformers: Any) -> None:
    """Refuse a network whose files ask for code of their own, or that transformers does not know.

    Raises:
        MachineError: what is wrong, and the way out.
    """
    documents = {file: _read_json(folder / file) for file in (_CONFIG, *_PROCESSORS) if (folder / file).is_file()}
    for file, document in documents.items():
        if document.get("auto_map"):
            raise MachineError(
                f"{folder / file}: this network brings Python code of its own (auto_map), which is never run. Where "
                f"you trust it, import it yourself: --arch package.module:callable; or, where a network of "
                f"transformers reads the same weights, take auto_map out of a copy of this file"
            )
    config = documents[_CONFIG]
    if config.get("quantization_config"):
        raise MachineError(
            f"{folder / _CONFIG}: its weights are quantized (quantization_config), which is not read; name the network "
            f"that they were made from"
        )
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise MachineError(
            f"{folder / _CONFIG}: model_type is {kind!r}, which transformers {transformers.__version__} does not know; "
            f"a newer one may: pip install -U transformers"
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        with os.fdopen(open_file(file, follow_links=True), "rb") as opened:
            data = opened.read(_MAX_JSON + 1)
    except OSError as error:
        raise MachineError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        document = json.loads(data) if len(data) <= _MAX_JSON else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise MachineError(
            f"{file}: not a JSON object ({len(data):,} bytes): it is cut short or damaged; fetch it again, as "
            f"save_pretrained writes it"
        )
    return document


def _shards(index: Path) -> list[str]:
    """Return the names of the files that weights are spread over, from their index; of the same folder."""
    places = _read_json(index).get("weight_map")
    names = sorted(set(places.values())) if isinstance(places, dict) and places else []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise MachineError(f"{index}: no index of weights (weight_map, names to files beside it); fetch it again")
    return names


def read_weights(folder: Path) -> tuple[Path, Any]:
    """Return a network's file of weights, and what it holds; of several, the index and all that they hold together.

    Raises:
        MachineError: there is none, a part is missing, or one is damaged; the message says which.
    """
    for name in (_WEIGHTS, _PICKLED):
        if (folder / name).is_file():
            return folder / name, read_checkpoint(folder / name)
    if not (folder / _INDEX).is_file():
        raise MachineError(
            f"{folder}: this folder has no model.safetensors; save_pretrained writes it. A state dict that lies "
            f"elsewhere is named with --weights FILE"
        )
    shards = _shards(folder / _INDEX)
    absent = [name for name in shards if not (folder / name).is_file()]
    if absent:
        raise MachineError(
            f"{folder / _INDEX}: {counted(len(absent), 'file')} of {len(shards)} missing (first: {absent[0]}); copy all"
        )
    tensors: dict[str, Any] = {}
    for name in shards:
        tensors |= read_checkpoint(folder / name)
    return folder / _INDEX, tensors
