"""Which head is meant, on which split: a saved one by its name, or a function; and both loaded."""

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError
from featcache.features import Features, read_features
from featcache.heads.classifiers import HeadFunction
from featcache.heads.saved import ChosenHead, SavedModel, choose_function, find_head, load_model, make_function_head
from featcache.recipe import remember_typed_head
from featcache.store import FeatureStore, ListingKey


def resolve_head(
    request: DatasetRequest, head: str | HeadFunction | None, split: str | None
) -> tuple[ChosenHead, ListingKey]:  # fmt: skip
    """Return the head that is meant, and the listing of the split; no model and no embedding is read."""
    if head is not None and not isinstance(head, str):
        split = split or _default_split_of_any(request)
        store = request.store_of(split)
        key = request.require_key(store, split)
        return choose_function(head, store, key), key
    remember_typed_head(request.head_class or "")
    choice = find_head(request, head)
    split = _default_split(request, choice.store) if split is None else split
    return choice, request.require_key(choice.store, split)


def load_head(
    choice: ChosenHead, key: ListingKey, head: str | HeadFunction | None
) -> tuple[SavedModel, Features]:  # fmt: skip
    """Return the model, and the embeddings that it is to predict on."""
    if head is not None and not isinstance(head, str):
        features = read_features(choice.store, key)
        return make_function_head(head, choice.store, features), features
    with choice.explain_choice_in_errors():
        saved = load_model(choice.folder, choice.store)
    return saved, read_features(choice.store, key)


def _default_split_of_any(request: DatasetRequest) -> str:
    """Return test, where a store has it, else val."""
    return "test" if any(request.key("test") in store.listings for store in request.stores()) else "val"


def _default_split(request: DatasetRequest, store: FeatureStore) -> str:
    for split in ("test", "val"):
        if request.key(split) in store.listings:
            return split
    raise CacheError(
        f"{request.folder}: no split of {request.recipe.name} to evaluate on: neither test nor val is in store "
        f"{store.name}. Run `{request.command_line('extract', '--split', 'test')}` (or `--split val`) first."
    )
