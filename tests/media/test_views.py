"""Views: what is drawn, from what, and that the pixels are those of torchvision's transforms v2."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featcache.errors import UsageError
from featcache.media import ImageTransform, View, decode_image, decode_views, decoded_views, make_views
from featcache.media.images import open_image
from featcache.media.views import draw_colors, draw_crop, draw_flip

TRANSFORM = ImageTransform(
    resize=48, crop=40, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", height=32, placement="round"
)
SQUARE = ImageTransform(resize=36, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))
digests = st.binary(min_size=32, max_size=32)


def picture(seed: int, size: tuple[int, int] = (97, 61)) -> bytes:
    """Return a PNG file of blurred noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def torchvision_view(data: bytes, view: View, transform: ImageTransform) -> np.ndarray:
    """Return a view by torchvision's functions on Pillow's image, (3, height, width), with what is drawn here."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    digest = hashlib.sha256(data).digest()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    mode, size = InterpolationMode(transform.interpolation), list(transform.input_size)
    if view.crop:
        left, top, width, height = draw_crop(view, image.size, digest)
        image = functional.resized_crop(image, top, left, height, width, size, mode)
    else:
        image = functional.center_crop(functional.resize(image, [transform.resize], mode), size)
    if draw_flip(view, digest):
        image = functional.horizontal_flip(image)
    adjust = {
        "brightness": functional.adjust_brightness,
        "contrast": functional.adjust_contrast,
        "saturation": functional.adjust_saturation,
        "hue": functional.adjust_hue,
    }
    for name, factor in draw_colors(view, digest):
        image = adjust[name](image, factor)
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("augment", ["flip=1", "crop", "color", "flip,crop=0.5,color=0.9,seed=3", "none"])
@pytest.mark.parametrize("transform", [TRANSFORM, SQUARE])
def test_a_view_has_torchvisions_pixels(augment, transform):
    """Every step of a view is that of torchvision's transforms v2 on Pillow's image, bit by bit."""
    for seed in range(4):
        data = picture(seed)
        views = make_views(augment, 4)
        decoded = decode_views(data, transform, views, hashlib.sha256(data).digest())
        for view, pixels in zip(views, decoded, strict=True):
            assert pixels.tobytes() == torchvision_view(data, view, transform).tobytes()


def test_views_stand_beside_the_plain_image():
    """The plain image has the pixels that it has alone, and so has a view that does nothing."""
    data = picture(1)
    plain, nothing, other = decode_views(data, SQUARE, [None, View(number=1), View(number=2, crop=0.1)], b"\1" * 32)
    assert plain.tobytes() == nothing.tobytes() == decode_image(data, SQUARE).tobytes() != other.tobytes()


def test_an_image_is_decoded_once_for_all_views(monkeypatch):
    """However many views are asked for, the file is opened and decoded one time."""
    opened = []
    monkeypatch.setattr(decoded_views, "open_image", lambda *of, **how: opened.append(1) or open_image(*of, **how))
    assert len(decode_views(picture(1), SQUARE, [None, *make_views("flip,crop,color", 5)], b"\1" * 32)) == 6
    assert opened == [1]


def test_the_draws_are_the_ones_that_they_were():
    """What is drawn of a view is pinned: a change of it would make other embeddings under the same fingerprint."""
    view, digest = View(number=2, seed=5, flip=0.5, crop=0.08, color=0.4), bytes(range(32))
    assert draw_crop(view, (640, 480), digest) == (148, 93, 338, 348)
    flips = "".join("-F"[draw_flip(View(number=number, flip=0.5), digest)] for number in range(1, 9))
    assert flips == "F--FF--F"
    assert draw_colors(view, digest) == [
        ("brightness", 1.1392857507697012),
        ("contrast", 1.0400048192985123),
        ("saturation", 1.3799165033980612),
        ("hue", 0.045958148699283774),
    ]


@given(sizes, digests, st.floats(0.01, 1), st.integers(1, 99))
def test_a_crop_lies_within_its_image(size, digest, share, number):
    """A crop has at least one pixel, and none outside the image."""
    left, top, width, height = draw_crop(View(number=number, crop=share), size, digest)
    assert 0 <= left < left + width <= size[0]
    assert 0 <= top < top + height <= size[1]


@given(digests)
def test_what_is_drawn_depends_on_seed_number_and_digest_alone(digest):
    """A flip is the same with a crop beside it; another number, seed or image is another draw."""
    for number in range(1, 5):
        alone, beside = View(number=number, flip=0.5), View(number=number, flip=0.5, crop=0.2, color=0.1)
        assert draw_flip(alone, digest) == draw_flip(beside, digest)
    crops = {
        draw_crop(View(number=number, seed=seed, crop=0.08), (4000, 3000), of)
        for number in (1, 2) for seed in (0, 1) for of in (digest, hashlib.sha256(digest).digest())
    }  # fmt: skip
    assert len(crops) == 8


def test_flips_and_crops_are_spread_as_torchvisions_are():
    """Over a thousand images half are flipped, and areas and ratios of crops are spread as RandomResizedCrop's."""
    import torch
    from torchvision.transforms.v2 import RandomResizedCrop

    view = View(number=1, flip=0.5, crop=0.08)
    names = [hashlib.sha256(bytes([number % 256, number // 256])).digest() for number in range(1000)]
    assert 440 < sum(draw_flip(view, name) for name in names) < 560
    torch.manual_seed(0)
    theirs = RandomResizedCrop(224)
    drawn = [theirs.make_params([Image.new("L", (1000, 1000))]) for _ in names]
    expected = np.array([(crop["width"], crop["height"]) for crop in drawn])
    ours = np.array([draw_crop(view, (1000, 1000), name)[2:] for name in names])
    for measure in (lambda crops: crops.prod(axis=1) / 1e6, lambda crops: np.log(crops[:, 0] / crops[:, 1])):
        share = np.linspace(0.02, 0.98, 9)
        np.testing.assert_allclose(np.quantile(measure(ours), share), np.quantile(measure(expected), share), atol=0.06)


@pytest.mark.parametrize(
    ("augment", "same"),
    [
        ("flip,crop", "flip,crop"),
        ("crop, flip=0.5", "flip,crop"),
        ("color=0.2,crop=0.3,seed=7", "crop=0.3,color=0.2,seed=7"),
        ("none", "none"),
        ("seed=0,flip=1", "flip=1"),
    ],
)
def test_a_set_of_views_has_one_spelling(augment, same):
    """What `--augment` says comes back in one spelling, which makes the same views."""
    views = make_views(augment, 2)
    assert [view.augment for view in views] == [same] * 2
    assert make_views(same, 2) == views
    assert [view.number for view in views] == [1, 2]


@pytest.mark.parametrize(
    "augment",
    [
        "",
        "flop",
        "flip=0",
        "crop=1.5",
        "crop=x",
        "color=nan",
        "flip,flip",
        "none,flip",
        "seed=-1",
        "crop=",
        "flip,,crop",
    ],
)
def test_other_words_are_refused(augment):
    """A word that is none of these is named, with what is expected."""
    with pytest.raises(UsageError, match="expected"):
        make_views(augment, 1)
