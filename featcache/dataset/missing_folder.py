"""A data set that nobody has extracted and that is not here: the folder, or the name, is misspelt."""

import os
import shlex
from typing import TYPE_CHECKING

from featcache.arguments import nearest_name
from featcache.containers import is_hub_name
from featcache.errors import CacheError
from featcache.files import expand_home, nearest_path
from featcache.files.objects import is_remote
from featcache.store import find_stores

if TYPE_CHECKING:
    from featcache.dataset.request import DatasetRequest


def refuse_missing_folder(request: "DatasetRequest") -> None:
    """Raise a CacheError unless the data set's folder is here, under a name that may still be extracted.

    Args:
        request: A data set that the cache does not hold.

    Raises:
        CacheError: the folder is not here; or it is in the cache under another name than --name or the recipe says.
    """
    data_sets = request.data_sets()
    if request.data is not None:
        _refuse_other_name(request, data_sets)
    if (
        request.data is None
        or is_hub_name(request.data)
        or is_remote(request.data)
        or os.path.exists(expand_home(request.data))
    ):
        return
    stores = find_stores(request.folder, request.stat_log)
    with_heads = {name for name in data_sets for store in stores if (store.root / "heads" / name).is_dir()}
    names = sorted(data_sets, key=lambda name: name not in with_heads)
    roots = [os.path.relpath(data_sets[name]) if _is_below_here(data_sets[name]) else data_sets[name] for name in names]
    held = f"it holds {', '.join(roots)}" if roots else "it is empty"
    error = CacheError(
        f"{request.data}: no such folder, and no embeddings of it in {request.folder} ({held}); `featcache extract "
        f"FOLDER` embeds the images of a folder that is there"
    )
    meant = nearest_name(request.data, roots) or nearest_path(request.data) or next(iter(roots), None)
    raise error if meant is None else error.correct(request.data, shlex.quote(meant))


def _refuse_other_name(request: "DatasetRequest", data_sets: dict[str, str]) -> None:
    """Refuse a name that nothing was extracted under, where the folder was under another one."""
    folder = os.path.realpath(expand_home(request.data or ""))
    others = [name for name, root in data_sets.items() if os.path.realpath(root) == folder]
    if not others or request.recipe.name in others:  # then it is there, divided otherwise
        return
    held = f"{request.data} is in this cache as {', '.join(others)}"
    if request.name is None:
        raise CacheError(f"{held}, and not as {request.recipe.name}: name it too, with --name {others[0]}").correct(
            "--name", others[0]
        )
    raise CacheError(
        f"--name {request.name}: {held}, and not under that name. --name names a data set, --head-name a head"
    ).correct("--name", "--head-name" if request.name not in data_sets else others[0])


def _is_below_here(root: str) -> bool:
    return root.startswith(os.path.join(os.getcwd(), ""))
