"""Augmentation: what an epoch shows of an image depends on the seed, the epoch and the image, and on nothing else."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from featcache.errors import UsageError
from featcache.finetuning import TrainingAugmentation, describe_augmentation, read_augmentation
from featcache.finetuning.augmentation import draw_box, draw_rectangle, mix_pairs, paste_boxes
from featcache.finetuning.augmentation_text import USUAL_STRENGTHS
from featcache.finetuning.rand_augment import OPERATIONS, apply_operation, apply_rand_augment
from featcache.media import ImageTransform, View, ViewDraws, make_views, resize_views
from featcache.recipe import AugmentationSection, AugmentationSettings, declared_settings

TRANSFORM = ImageTransform(resize=36, crop=32, mean=(0.5, 0.4, 0.3), std=(0.5,) * 3)
EVERYTHING = "flip,vertical_flip,crop,color,rotation,randaugment,erase"
digests = st.binary(min_size=32, max_size=32)
names = st.lists(st.sampled_from(sorted(USUAL_STRENGTHS)), unique=True)


def picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, *size), dtype=np.uint8)


def digest(seed: int) -> bytes:
    return hashlib.sha256(bytes([seed])).digest()


def augmentation(text: str, seed: int = 0) -> TrainingAugmentation:
    return TrainingAugmentation(read_augmentation(text), TRANSFORM, seed)


def draws(seed: int = 0) -> ViewDraws:
    return ViewDraws(View(number=1), digest(seed), "test")


# What is drawn


@pytest.mark.parametrize("name", EVERYTHING.split(","))
def test_every_augmentation_changes_pixels_and_keeps_their_shape(name):
    """Each name does something to some epoch, and what comes back is uint8 of the trunk's input."""
    usual, plain = augmentation(f"{name}=1" if name.endswith("flip") or name == "erase" else name), augmentation("none")
    before = plain.augment(picture(), digest(0), 0)
    shown = [usual.augment(picture(), digest(0), epoch) for epoch in range(4)]
    assert {(image.shape, image.dtype.name) for image in [before, *shown]} == {((3, 32, 32), "uint8")}
    assert any(image.tobytes() != before.tobytes() for image in shown)


def test_the_same_seed_epoch_and_image_draw_the_same():
    """In whatever order images come, and whatever torch's generator has given, an epoch shows the same pixels."""
    everything = augmentation(EVERYTHING)
    cases = [(image, epoch) for image in range(4) for epoch in range(3)]
    before = {case: everything.augment(picture(case[0]), digest(case[0]), case[1]).tobytes() for case in cases}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for case in reversed(cases):
        assert everything.augment(picture(case[0]), digest(case[0]), case[1]).tobytes() == before[case]
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(before.values())) == len(cases)


def test_another_seed_draws_others():
    """The seed of a run decides what is drawn."""
    shown = {augmentation("crop", seed).augment(picture(), digest(0), 0).tobytes() for seed in range(5)}
    assert len(shown) == 5


@pytest.mark.parametrize("text", ["flip", "crop=0.3", "color", "flip,crop,color=0.9"])
def test_an_epoch_shows_the_view_of_its_number(text):
    """Flips, crops and colours of epoch 0, 1, 2 are those of view 1, 2, 3 of `extract --views`, bit by bit."""
    pixels = picture(3, (61, 97))
    views = resize_views(pixels.transpose(1, 2, 0), TRANSFORM, make_views(text, 3), digest(3))
    for epoch, view in enumerate(views):
        assert augmentation(text).augment(pixels, digest(3), epoch).tobytes() == view.tobytes()


def test_without_crops_the_trunks_own_crop_comes_first():
    """A whole image and what the trunk's own crop leaves of it give the same, where nothing crops at random."""
    whole = picture(1, (61, 97))
    (plain,) = resize_views(whole.transpose(1, 2, 0), TRANSFORM, [None], digest(1))
    for text in ("none", "flip,color,rotation,erase=1"):
        ours = augmentation(text)
        assert ours.augment(whole, digest(1), 2).tobytes() == ours.augment(plain, digest(1), 2).tobytes()
    assert augmentation("none").augment(plain, digest(1), 2).tobytes() == plain.tobytes()


def test_the_share_of_flips_is_its_probability():
    """Of many images and epochs, as many are mirrored as the probability says."""
    ours, image = augmentation("vertical_flip=0.25"), picture(0, (32, 32))
    flipped = [
        ours.augment(image, digest(number % 256), number // 256).tobytes() != image.tobytes() for number in range(800)
    ]
    assert abs(np.mean(flipped) - 0.25) < 0.05


# What it is made of


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions(name):
    """Every operation of RandAugment gives torchvision's pixels at every magnitude that a recipe can name."""
    theirs = v2.RandAugment()
    image = torch.from_numpy(picture(2, (40, 50)))
    magnitudes, signed = v2.RandAugment._AUGMENTATION_SPACE[name]
    for magnitude in (1, 9, 17, 30):
        for is_negative in (False, True):
            strengths = magnitudes(31, 40, 50)
            strength = 0.0 if strengths is None else float(strengths[magnitude]) * (-1 if signed and is_negative else 1)
            expected = theirs._apply_image_or_video_transform(
                image, name, strength, interpolation=theirs.interpolation, fill=theirs._fill
            )
            assert torch.equal(apply_operation(image, name, magnitude, is_negative=is_negative), expected)


def test_the_operations_are_all_of_torchvisions():
    """RandAugment draws from the fourteen operations that torchvision has, and applies two."""
    assert set(OPERATIONS) == set(v2.RandAugment._AUGMENTATION_SPACE)
    numbers = draws()
    image = torch.from_numpy(picture())
    expected = image
    for _ in range(2):
        name = OPERATIONS[numbers.below(len(OPERATIONS))]
        expected = apply_operation(expected, name, 9, is_negative=numbers.between(0, 1) < 0.5)
    assert torch.equal(apply_rand_augment(image, 9, draws()), expected)


@given(st.tuples(st.integers(2, 300), st.integers(2, 300)), digests)
def test_what_is_erased_lies_within_the_image(size, of):
    """A rectangle is smaller than the image and inside it; where none was drawn, nothing is erased."""
    rectangle = draw_rectangle(size, ViewDraws(View(number=1), of, "erase"))
    if rectangle is not None:
        top, left, height, width = rectangle
        assert 0 <= top <= top + height <= size[0]
        assert 0 <= left <= left + width <= size[1]
        assert height < size[0]
        assert width < size[1]


def test_an_erased_rectangle_has_the_mean_colour():
    """What is erased is the colour that the trunk's transform makes zero."""
    image = picture(4, (32, 32))
    erased = augmentation("erase=1").augment(image, digest(4), 0)
    changed = (erased != image).any(0)
    assert 0.01 < changed.mean() < 0.4
    assert {tuple(colour) for colour in erased[:, changed].T} == {(128, 102, 76)}


# Mixing


def test_mixing_is_torchvisions():
    """Given the same share and box, mixup and CutMix give torchvision's images and labels."""
    torch.manual_seed(0)
    pixels, labels = torch.rand(5, 3, 8, 6), torch.arange(5)
    targets = torch.nn.functional.one_hot(labels, 5).float()
    mixup, cutmix = v2.MixUp(num_classes=5), v2.CutMix(num_classes=5)
    given_share = {"lam": 0.3, "labels": labels, "batch_size": 5}
    torch.testing.assert_close(mix_pairs(pixels, 0.3), mixup.transform(pixels, given_share))
    torch.testing.assert_close(mix_pairs(targets, 0.3), mixup.transform(labels, given_share))
    box = (1, 2, 5, 8)
    pasted, share = paste_boxes(pixels, box)
    given_box = {"box": box, "lam_adjusted": share, "labels": labels, "batch_size": 5}
    assert torch.equal(pasted, cutmix.transform(pixels, given_box))
    torch.testing.assert_close(mix_pairs(targets, share), cutmix.transform(labels, given_box))


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.floats(0, 1), digests)
def test_a_box_lies_within_the_image(size, share, of):
    """What CutMix pastes is cut off at the edges, and what an image keeps is the share that is left."""
    left, top, right, bottom = box = draw_box(size, share, ViewDraws(View(number=1), of, "mix"))
    assert 0 <= left <= right <= size[1]
    assert 0 <= top <= bottom <= size[0]
    _, kept = paste_boxes(torch.zeros(2, 3, *size), box)
    assert 0 <= kept <= 1


@settings(max_examples=20)
@given(st.sampled_from(["mixup", "cutmix", "mixup,cutmix=0.5"]), st.integers(1, 6), st.integers(0, 50))
def test_mixed_targets_are_still_shares(text, rows, epoch):
    """Every image still has shares of classes that add up to one, and the same batch is mixed the same again."""
    pixels, targets = torch.rand(rows, 3, 8, 8), torch.eye(rows)
    before = pixels.clone()
    mixed, shares = augmentation(text).mix(pixels, targets, [digest(row) for row in range(rows)], epoch)
    torch.testing.assert_close(shares.sum(1), torch.ones(rows))
    assert (shares >= 0).all()
    again = augmentation(text).mix(pixels, targets, [digest(row) for row in range(rows)], epoch)
    assert torch.equal(mixed, again[0])
    assert torch.equal(shares, again[1])
    assert torch.equal(pixels, before)


def test_with_both_each_batch_draws_one():
    """With mixup and CutMix some batches are blended as a whole, others have a box pasted."""
    pixels = torch.stack([torch.full((3, 8, 8), float(row)) for row in range(4)])
    kinds = set()
    for epoch in range(20):
        mixed, _ = augmentation("mixup=1,cutmix").mix(pixels, torch.eye(4), [digest(0)], epoch)
        kinds.add(bool((mixed == mixed.round()).all()))
    assert kinds == {True, False}


def test_nothing_is_mixed_unasked():
    """Without mixup and CutMix a batch comes back as it is."""
    pixels, targets = torch.rand(2, 3, 4, 4), torch.eye(2)
    ours = augmentation("flip")
    assert not ours.mixes
    assert ours.mix(pixels, targets, [digest(0), digest(1)], 0) == (pixels, targets)
    assert augmentation("mixup").mixes
    assert augmentation("crop").crops
    assert not ours.crops


# Words


@given(names)
def test_words_come_back(chosen):
    """What is read is described in the same words, in the order of the declaration."""
    order = [name for name in declared_settings(AugmentationSettings) if name in chosen]
    assert describe_augmentation(read_augmentation(",".join(chosen) or "none")) == (",".join(order) or "none")


def test_a_strength_comes_back():
    """Strengths of one's own are described; a strength of 0 is nothing."""
    section = read_augmentation("crop=0.3, rotation=7.5, flip=0, randaugment=5")
    assert section == AugmentationSection(crop=0.3, rotation=7.5, randaugment=5)
    assert describe_augmentation(section) == "crop=0.3,rotation=7.5,randaugment=5"


def test_the_words_of_views_have_the_strengths_of_views():
    """flip, crop and color without a strength are those of `extract --augment`."""
    view, section = make_views("flip,crop,color", 1)[0], read_augmentation("flip,crop,color")
    assert (view.flip, view.crop, view.color) == (section.flip, section.crop, section.color)


def test_every_setting_has_a_usual_strength():
    """Every name of the section can be typed alone, and does something then."""
    assert set(USUAL_STRENGTHS) == set(declared_settings(AugmentationSettings))
    assert all(USUAL_STRENGTHS.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flp", "found 'flp', expected none, or names separated by commas"),
        ("flip,flip", "found 'flip'"),
        ("crop=", "found 'crop='"),
        ("none,flip", "found 'none'"),
        ("", "found ''"),
        ("rotation=200", "found rotation=200, expected a number from 0 to 180"),
        ("randaugment=1.5", "found randaugment=1.5, expected a whole number from 0 to 30"),
        ("mixup=nan", "found mixup=nan, expected a number from 0 to 100"),
    ],
)
def test_a_wrong_word_is_refused_with_what_there_is(text, said):
    """One sentence: what was typed, what was found, what is expected."""
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        read_augmentation(text)
