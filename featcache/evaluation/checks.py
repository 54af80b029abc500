"""Whether a head may be evaluated on a split, and what a reader of the figures must know."""

from featcache.errors import CacheError
from featcache.features import RANDOM_TRUNK, Features, has_random_trunk
from featcache.heads.saved import SavedModel, is_function, refuse_other_trunk
from featcache.listing import find_leaks
from featcache.store import FeatureStore, ListingKey, is_same_folder
from featcache.text import counted

_NAMED = 5  # subjects in an error


def refuse_unfit(model: SavedModel, store: FeatureStore, features: Features, *, allow_shared_subjects: bool) -> None:
    """Refuse a head whose figures on these features would mean nothing, or flatter it.

    What is said of train comes from its listing on disk: its embeddings are not read.

    Raises:
        CacheError: the head is of another trunk or has other classes; train lies in another folder; or a subject
            stands in train too and `allow_shared_subjects` is not set.
    """
    refuse_other_trunk(model, store.fingerprint)
    train = _train_key(features)
    if train in store.listings and not is_same_folder(store.origin(train)[0], features.source["root"]):
        raise CacheError(
            f"split {features.split!r} was extracted from {features.source['root']}, train from "
            f"{store.origin(train)[0]}. Run `featcache extract` (without --split): it embeds only what is new."
        )
    if model.classes != features.classes:
        raise CacheError(
            f"head {model.name} knows {len(model.classes)} classes, split {features.split!r} was extracted with "
            f"{len(features.classes)} or with other names. Run `featcache extract` (without --split) and "
            f"`featcache fit-head` again; only what is new is embedded."
        )
    if not allow_shared_subjects:
        _refuse_shared_subjects(store, features)


def notes_on(model: SavedModel, store: FeatureStore, features: Features, selected_by: str) -> list[str]:
    """Return what every report of the head on these features must say, a sentence each.

    Args:
        model: the head.
        store: the store of the features.
        features: the split that the head was evaluated on.
        selected_by: what chose the head among others; "" where nothing did.
    """
    notes = _leaks_from_train(store, features)
    if has_random_trunk(features.source):
        notes.append(RANDOM_TRUNK)
    if is_function(model.kind):
        notes.append(f"{model.name} is a function of Python: which images it was trained on is not known")
    elif features.split == "train":
        notes.append("these are the images that the head was trained on")
    if features.split == "val" and selected_by:
        notes.append("this head was chosen by its score on these images, so this score is a little too high")
    if features.part:
        notes.append(f"split {features.split!r} is a part of its folder ({features.part})")
    trained_in = model.sources["train"].get("root", "")
    if trained_in and not is_same_folder(trained_in, features.source["root"]):
        notes.append(f"this head was trained on images in {trained_in}; this split lies in {features.source['root']}")
    if model.has_diverged:
        notes.append("this head diverged: its weights are not finite, and its predictions mean nothing")
    return notes


def _refuse_shared_subjects(store: FeatureStore, features: Features) -> None:
    """Refuse a split that shows a person whom the head was trained on."""
    if features.split == "train" or not any(features.subjects):
        return
    train = store.listing(_train_key(features))
    trained_on = set(train.listing.take(train.embedded).subjects)
    shared = sorted((trained_on & set(features.subjects)) - {""})
    if shared:
        raise CacheError(
            f"split {features.split!r} shares {counted(len(shared), 'subject')} with train "
            f"({', '.join(shared[:_NAMED])}): a figure on it would flatter the head. --allow-shared-subjects evaluates "
            f"all the same."
        )


def _leaks_from_train(store: FeatureStore, features: Features) -> list[str]:
    """Name the subjects, clips and images that the split shares with train, though it should not."""
    train = _train_key(features)
    if features.split == "train" or train not in store.listings:
        return []
    return [str(leak) for leak in find_leaks([store.listing(train).listing, features])]


def _train_key(features: Features) -> ListingKey:
    """Return the name of the listing of train that belongs to these features."""
    return features.source["data_set"], features.source["variant"], "train"
