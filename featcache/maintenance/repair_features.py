"""The folder of heads that were trained on several stores together: its features.json and its heads, repaired."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import StatLog
from featcache.heads.saved import describe_model, repair_heads
from featcache.store import FEATURES_FILE, FeatureStore, Problem, concatenate, find_stores, open_store


def repair_concatenation(root: Path, *, dry_run: bool) -> tuple[list[Problem], list[Problem]]:
    """Move damaged heads aside, and write a damaged features.json again from what the others say.

    Args:
        root: The folder, below `stores`.
        dry_run: Whether nothing is changed.

    Returns:
        What was done or, in a dry run, would be; and what cannot be repaired.

    Raises:
        CacheError: a folder of heads cannot be listed.
        MachineError: the disk refuses.
    """
    actions = [
        Problem(str(folder), "head", f"{folder}: damaged, moved aside; `featcache fit-head` makes it again")
        for folder in repair_heads(root, dry_run=dry_run)
    ]
    stat_log, path = StatLog(root.parent.parent), root / FEATURES_FILE
    try:
        open_store(root, stat_log)
    except CacheError as error:
        store = next(_stores_of_heads(root, find_stores(root.parent.parent, stat_log)), None)
        if store is None:
            return actions, [Problem(str(path), "features", str(error))]
        actions.append(Problem(str(path), "features", f"{path}: written anew: the heads beside it name its stores"))
        if not dry_run:
            store.publish_record()
    return actions, []


def _stores_of_heads(root: Path, stores: Sequence[FeatureStore]) -> Iterator[FeatureStore]:
    """Yield the stores together that the heads of a folder were trained on, where all of them are here."""
    by_fingerprint = {store.fingerprint: store for store in stores}
    for folder in sorted((root / "heads").glob("*/*/*")):
        with contextlib.suppress(CacheError):
            trunks = describe_model(folder).sources["train"]["trunk"].split("+")
            if len(trunks) > 1 and set(trunks) <= by_fingerprint.keys():
                store = concatenate([by_fingerprint[trunk] for trunk in trunks])
                if store.root == root:
                    yield store
