"""The weights of a fine-tuned trunk, kept in the cache: a safetensors file that any command loads as `--weights`.

<cache>/finetuned/<words>-<the first 8 digits of the tensors' sha256>.safetensors
"""

from pathlib import Path
from typing import TYPE_CHECKING

from featcache.files import make_folder, publish
from featcache.files.objects import working_place
from featcache.trunks import FINETUNED_FOLDER, hash_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from featcache.trunks.libraries import LoadedNetwork

_DIGITS = 8


def name_tensors(network: "LoadedNetwork") -> dict[str, str]:
    """Return the name in a file of weights of each tensor of a network, and its name in the module.

    Args:
        network: As its library loaded it, before anything moves its tensors.
    """
    own = {
        name: value for name, value in network.module.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    if network.named is None:
        return {name: name for name in own}
    places = {(value.data_ptr(), value.shape): name for name, value in own.items()}
    return {name: places[value.data_ptr(), value.shape] for name, value in network.named.items()}


def keep_trunk(network: "LoadedNetwork", names: dict[str, str], cache: Path, words: str) -> tuple[Path, str]:
    """Write a trained trunk into the cache.

    Args:
        network: As it was trained.
        names: What `name_tensors` said of it.
        cache: The cache folder.
        words: How the file's name begins.

    Returns:
        The file, of a cache in a bucket the one on this machine, and the sha256 of its tensors.

    Raises:
        MachineError: the disk refuses.
    """
    from safetensors.torch import save

    own = network.module.state_dict()
    tensors: dict[str, Tensor] = {name: own[place].detach().cpu().contiguous().clone() for name, place in names.items()}
    sha256 = hash_tensors(tensors)
    path, data = cache / FINETUNED_FOLDER / f"{words}-{sha256[:_DIGITS]}.safetensors", save(tensors)
    place = working_place(path, cache)
    for each in dict.fromkeys((path, place)):
        make_folder(each.parent)
        publish(each, data)
    return place, sha256
