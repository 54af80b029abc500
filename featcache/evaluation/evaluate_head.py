"""A saved head on a split: find both, predict, and count."""

from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import CacheError, DataError, UsageError
from featcache.evaluation.evaluation import Evaluation, evaluation_of
from featcache.evaluation.predictions import RULES, Answers, answers_of, by_clip
from featcache.features import RANDOM_TRUNK, Features, changes_since_extract, features_of
from featcache.heads.saved import Opened, Run, Which, has_diverged, load_model, predict_rows, which_head
from featcache.listing import find_leaks
from featcache.metrics import Groups, calibration, group, intervals, unit_of
from featcache.recipe import StoreOptions
from featcache.store import FeatureStore, is_same_folder

BY = ("image", "clip")  # what one row of an evaluation is


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A head on a split: its answers, and where both come from."""

    asked: Asked
    store: FeatureStore
    head: Opened
    which: Which  # how the head was chosen, and the runs that made it
    shared_allowed: bool  # whether --allow-shared-subjects was given
    features: Features
    images: Answers
    clips: Answers | None  # None where no image belongs to a clip, or a clip has no single class
    notes: tuple[str, ...]

    @property
    def run(self) -> Run:
        """The newest run that made this head."""
        return self.which.run

    @property
    def selected_by(self) -> str:
        """What chose this head among others; "" where nothing did."""
        return self.which.selected_by

    def evaluation(self, by: str = BY[0]) -> Evaluation:
        """What follows from the answers by image or by clip, the other beside it."""
        units = {"image": self.images, "clip": self.clips}
        other = units[BY[1 - BY.index(by)]]
        chosen = units[by]
        assert chosen is not None  # noqa: S101 (`examine` refused it)
        beside = None if other is None else self._counted(other)
        notes = self.notes
        if by == "clip" and self.features.failed:
            notes = (*notes, f"{self.features.failed:,} images could not be embedded and are missing from their clips")
        return replace(self._counted(chosen), beside=beside, notes=notes)

    def _counted(self, answers: Answers) -> Evaluation:
        return replace(
            evaluation_of(
                answers.truth, answers.predicted, answers.classes, head=self.head.name,
                data_set=self.asked.recipe.name, split=self.features.split, by=answers.by,
                failed=self.features.failed if answers.by == "image" else 0, selected_by=self.selected_by,
            ),
            chosen=self.which.chosen,
            rule=answers.rule,
            intervals=intervals(grouped(answers, answers.right[:, None])) if len(answers.truth) else None,
            calibration=None if answers.votes else calibration(answers.confidence, answers.right),
        )  # fmt: skip


@checked
def evaluate(
    head: str | None = None,
    *,
    split: str | None = None,
    by: str = BY[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    **where: Unpack[StoreOptions],
) -> Evaluation:
    """Evaluate a head (the best on val where none is named) on test, or on val where there is no test.

    `head` is a head's name, or the start of one that no other head of this data set has; or "best", which `compare`
    shows first, or "latest", the newest run's best. `by` is "image" or "clip"; `clip_rule` is one of `answers.RULES`.

    Raises:
        UsageError: the recipe, `by` or `clip_rule`.
        CacheError: no head, no split to evaluate on, another variant, other classes, or subjects in both splits.
        DataError: by clip, and there is none, or one has several classes.
    """
    options = {"split": split, "by": by, "clip_rule": clip_rule, "allow_shared_subjects": allow_shared_subjects}
    return examine(Asked(**where), head, **options).evaluation(by)  # type: ignore[arg-type]


def examine(
    asked: Asked,
    head: str | None = None,
    *,
    split: str | None = None,
    by: str = BY[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
) -> Examined:
    """Find a head and a split, and let the one answer on the other; see `evaluate`."""
    for flag, value, known in (("--by", by, BY), ("--clip-rule", clip_rule, RULES)):
        if value is not None and value not in known:
            raise UsageError(f"{flag}: found {value!r}, expected {' or '.join(known)}")
    which = which_head(asked, head)
    store = which.store
    with which.refused_with_the_next():
        chosen = load_model(which.folder, store)
    key = asked.key_of(store, _default_split(asked, store) if split is None else split)
    features = features_of(store, key)
    with which.refused_with_the_next():
        _refuse_unfit(chosen, store, features, allow_shared_subjects=allow_shared_subjects)
        answers = predict_rows(chosen, features)
    images = answers_of(
        answers, features.y, features.classes, paths=features.paths, clips=features.clips, subjects=features.subjects
    )
    clips, by_clip_note = None, ""
    try:
        clips = by_clip(images, clip_rule or RULES[0]) if by == "clip" or any(features.clips) else None
        if clips is not None and clips.left_out:
            by_clip_note = f"{clips.left_out:,} images belong to no clip and are left out of the figures by clip"
    except DataError as error:
        if by == "clip":
            raise
        by_clip_note = f"no figures by clip: {error}"
    if clips is None and clip_rule is not None:
        reason = by_clip_note or f"no image of split {features.split!r} belongs to a clip"
        raise UsageError(f"--clip-rule {clip_rule} has no effect here: {reason}. Leave it out.")
    shared, noted = _shared(store, features), _notes(chosen, features, which.selected_by)
    notes = (*which.notes, *changes_since_extract(store, asked.recipe, [key[2]]), *shared, *noted, by_clip_note)
    return Examined(
        asked=asked,
        store=store,
        head=chosen,
        which=which,
        shared_allowed=allow_shared_subjects,
        features=features,
        images=images,
        clips=clips,
        notes=tuple(filter(None, notes)),
    )


def grouped(answers: Answers, right: npt.NDArray[np.bool_]) -> Groups:
    """The groups that a bootstrap draws; `right` is (rows, columns): what is counted beside the rows of each class.

    Where neither subjects nor clips are named, each row is a group of its own.
    """
    unit, names = unit_of(answers.subjects, answers.clips)
    if unit != "subject" and answers.by == "clip":
        unit, names = "clip", ()
    return group(unit, names, answers.truth, right, len(answers.classes))


def _default_split(asked: Asked, store: FeatureStore) -> str:
    for split in ("test", "val"):
        if asked.key(split) in store.listings:
            return split
    raise CacheError(
        f"{asked.folder}: no split of {asked.recipe.name} to evaluate on: neither test nor val is in store "
        f"{store.name}. Run `featcache extract --split test` (or `--split val`) first."
    )


def _refuse_unfit(head: Opened, store: FeatureStore, features: Features, *, allow_shared_subjects: bool) -> None:
    if head.sources["train"]["trunk"] != store.trunk.spec.fingerprint():
        raise CacheError(f"head {head.name} was trained on embeddings of another trunk than {store.name}'s")
    key = (features.source["data_set"], features.source["variant"], "train")
    if key in store.listings and not is_same_folder(store.origin(key)[0], features.source["root"]):
        raise CacheError(
            f"split {features.split!r} was extracted from {features.source['root']}, train from "
            f"{store.origin(key)[0]}. Run `featcache extract` (without --split): it embeds only what is new."
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
    return [str(cut) for cut in find_leaks([store.listing(key).listing, features])]


def _notes(head: Opened, features: Features, selected_by: str) -> tuple[str, ...]:
    notes = []
    if features.source["weights"] == "random":
        notes.append(RANDOM_TRUNK)
    if features.split == "train":
        notes.append("these are the images that the head was trained on")
    if features.split == "val" and selected_by:
        notes.append("this head was chosen by its score on these very images, so the score is a little too good")
    if features.part:
        notes.append(f"split {features.split!r} is a part of its folder ({features.part})")
    trained = head.sources["train"].get("root", "")
    if trained and not is_same_folder(trained, features.source["root"]):
        notes.append(f"this head was trained on images in {trained}; this split lies in {features.source['root']}")
    if has_diverged(head):
        notes.append("this head diverged: its weights are not finite, and its predictions mean nothing")
    return tuple(notes)
