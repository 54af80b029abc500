"""A saved head on a split: find both, predict, and count."""

from typing import Unpack

from featcache.asked import Asked
from featcache.errors import CacheError
from featcache.features import RANDOM_TRUNK, Features, behind, features_of
from featcache.heads import saved
from featcache.heads.saved import SavedHead
from featcache.heads.which import which_head
from featcache.listing import cuts
from featcache.report.evaluation import Evaluation, evaluation_of
from featcache.store import FeatureStore
from featcache.where import Stored


def evaluate(
    head: str | None = None,
    *,
    split: str | None = None,
    allow_shared_subjects: bool = False,
    **where: Unpack[Stored],
) -> Evaluation:
    """Evaluate a head (the newest run's best where none is named) on test, or on val where there is no test.

    `head` is a head's name, or the start of one that no other head of this data set has.

    Raises:
        UsageError: the recipe.
        CacheError: no head, no split to evaluate on, another variant, other classes, or subjects in both splits.
    """
    asked = Asked(**where)
    which = which_head(asked, head)
    found, chosen, selected_by = which.store, saved.load(which.folder), which.selected_by
    key = asked.key(split or _default_split(asked, found))
    features = features_of(found, key)
    _refuse_unfit(chosen, found, features, allow_shared_subjects=allow_shared_subjects)
    notes = (*behind(found, asked.recipe, [key[2]]), *_shared(found, features), *_notes(chosen, features, selected_by))
    return evaluation_of(
        features.y,
        chosen.head.logits(features.x).argmax(axis=1),
        features.classes,
        head=chosen.name,
        data_set=asked.recipe.name,
        split=key[2],
        failed=features.failed,
        selected_by=selected_by,
        notes=tuple(filter(None, notes)),
    )


def _default_split(asked: Asked, store: FeatureStore) -> str:
    for split in ("test", "val"):
        if asked.key(split) in store.listings:
            return split
    raise CacheError(
        f"{asked.folder}: no split of {asked.recipe.name} to evaluate on: neither test nor val is in store "
        f"{store.name}. Run `featcache extract --split test` (or `--split val`) first."
    )


def _refuse_unfit(head: SavedHead, store: FeatureStore, features: Features, *, allow_shared_subjects: bool) -> None:
    if head.sources["train"]["trunk"] != store.trunk.spec.fingerprint():
        raise CacheError(f"head {head.name} was trained on embeddings of another trunk than {store.name}'s")
    key = (features.source["data_set"], features.source["variant"], "train")
    if key in store.listings and store.listing(key).listing.root != features.source["root"]:
        raise CacheError(
            f"split {features.split!r} was extracted from {features.source['root']}, train from "
            f"{store.listing(key).listing.root}. Run `featcache extract` (without --split): it embeds only what is new."
        )
    if head.classes != features.classes:
        raise CacheError(
            f"head {head.name} knows {len(head.classes)} classes, split {features.split!r} was extracted with "
            f"{len(features.classes)} or with other names. Run `featcache extract` (without --split) and "
            f"`featcache fit-head` again; only what is new is embedded."
        )
    if features.split == "train" or allow_shared_subjects or not any(features.subjects):
        return
    train = features_of(store, (features.source["data_set"], features.source["variant"], "train"))
    shared = sorted((set(train.subjects) & set(features.subjects)) - {""})
    if shared:
        raise CacheError(
            f"split {features.split!r} shares {len(shared)} subjects with train ({', '.join(shared[:5])}): a figure on "
            f"it would flatter the head. --allow-shared-subjects evaluates all the same."
        )


def _shared(store: FeatureStore, features: Features) -> list[str]:
    """What the split shares with train, though it should not."""
    key = (features.source["data_set"], features.source["variant"], "train")
    if features.split == "train" or key not in store.listings:
        return []
    return [str(cut) for cut in cuts([store.listing(key).listing, features])]


def _notes(head: SavedHead, features: Features, selected_by: str) -> tuple[str, ...]:
    notes = []
    if features.source["weights"] == "random":
        notes.append(RANDOM_TRUNK)
    if features.split == "train":
        notes.append("these are the images that the head was trained on")
    if features.split == "val" and selected_by:
        notes.append("this head was chosen by its score on these very images, so the score is a little too good")
    if features.part:
        notes.append(f"split {features.split!r} is a part of its folder ({features.part})")
    if head.head.diverged:
        notes.append("this head diverged: its weights are not finite, and its predictions mean nothing")
    return tuple(notes)
