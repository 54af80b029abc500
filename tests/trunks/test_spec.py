"""TrunkSpec: what changes an embedding changes the fingerprint, and nothing else does."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.media import ImageTransform, View
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

SPEC = TrunkSpec(arch="vit_b_16", weights_sha256="00" * 32, transform=architecture("vit_b_16").transform)

OTHER = {
    "arch": "vit_b_32",
    "weights_sha256": "11" * 32,
    "layer": "mean",
    "compute": "bfloat16",
    "stored": "float16",
    "config": "22" * 32,
    "positions": "interpolated",
    "view": View(number=1),
}
OTHER_TRANSFORM = {
    "resize": 242,
    "crop": 208,
    "mean": (0.485, 0.456, 0.4060001),
    "std": (0.229, 0.224, 0.2250001),
    "interpolation": "bicubic",
    "antialias": False,
    "exif": "apply",
    "modes": "grey",
    "decoder": "pillow-fast",
    "fit": "squash",
    "height": 192,
    "resize_height": 240,
    "placement": "floor",
}

specs = st.builds(
    TrunkSpec,
    arch=st.sampled_from(["vit_b_16", "timm:resnet50.a1_in1k", "hf:google/vit-base-patch16-224", "nets.small:Net"]),
    layer=st.sampled_from(["cls", "mean", "pooled", "tokens", "grid4", "cls@-2", "mean@-12", "name:layer3.1"]),
    config=st.sampled_from(["", "22" * 32]),
    positions=st.sampled_from(["own", "interpolated"]),
    view=st.none()
    | st.builds(
        View,
        number=st.integers(1, 99),
        seed=st.integers(0, 3),
        flip=st.sampled_from([0.0, 0.5]),
        crop=st.sampled_from([0.0, 0.08, 1.0]),
        color=st.sampled_from([0.0, 0.4]),
    ),
    weights_sha256=st.sampled_from(["00" * 32, "11" * 32]),
    compute=st.sampled_from(["float32", "bfloat16"]),
    stored=st.sampled_from(["float32", "float16"]),
    transform=st.builds(
        ImageTransform,
        resize=st.integers(1, 600),
        crop=st.integers(1, 600),
        mean=st.tuples(*[st.floats(0, 1)] * 3),
        std=st.tuples(*[st.floats(0.01, 1)] * 3),
        interpolation=st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
        fit=st.sampled_from(["shorter", "squash"]),
        height=st.integers(0, 600),
        resize_height=st.integers(0, 600),
        placement=st.sampled_from(["round", "floor"]),
        exif=st.sampled_from(["ignore", "apply"]),
        decoder=st.sampled_from(["pillow", "pillow-fast", "nvjpeg"]),
    ),
)


def test_the_fingerprint_is_the_one_that_it_was():
    """The fingerprint of a spec is pinned: a change of it would orphan every cache that stands."""
    assert SPEC.fingerprint() == "25ccd516b6e0c3864e915295837591e5de2ebd4c7c0d0ec803c92455b37b7988"
    assert (
        replace(SPEC, compute="bfloat16", stored="float16").fingerprint()
        == "79f997ae7d21e215ad1a4ab73163d223fab04156253018323472850e8f46e9ec"
    )


def test_the_json_is_the_one_that_it_was():
    """What stands in trunk.json is pinned too; fields at their default are left out, in the transform as well."""
    assert SPEC.to_json() == {
        "arch": "vit_b_16",
        "weights_sha256": "00" * 32,
        "transform": {"resize": 256, "crop": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    }


def test_every_field_is_tried_below():
    """A field that is added without a test of its own is noticed here."""
    assert {field.name for field in fields(TrunkSpec)} == {*OTHER, "transform"}
    assert {field.name for field in fields(ImageTransform)} == set(OTHER_TRANSFORM)


@pytest.mark.parametrize("field", OTHER)
def test_each_field_alone_changes_the_fingerprint(field):
    """Another value of one field is another store."""
    changed = replace(SPEC, **{field: OTHER[field]})
    assert changed.fingerprint() != SPEC.fingerprint()
    other = OTHER[field]
    assert changed.to_json()[field] == ({"number": other.number} if isinstance(other, View) else other)


@pytest.mark.parametrize("change", [{"number": 2}, {"seed": 1}, {"flip": 0.5}, {"crop": 0.08}, {"color": 0.4}])
def test_each_field_of_the_view_alone_changes_the_fingerprint(change):
    """Another number, seed or strength is another store; what is not done to an image is left out."""
    plain, changed = replace(SPEC, view=View(number=1)), replace(SPEC, view=View(**{"number": 1, **change}))
    assert changed.fingerprint() != plain.fingerprint()
    assert changed.to_json()["view"] == {"number": 1, **change}
    assert {field.name for field in fields(View)} == {"number", "seed", "flip", "crop", "color"}


@pytest.mark.parametrize("field", OTHER_TRANSFORM)
def test_each_field_of_the_transform_alone_changes_the_fingerprint(field):
    """Another value of one field of the transform is another store, down to the last digit of a mean."""
    changed = replace(SPEC, transform=replace(SPEC.transform, **{field: OTHER_TRANSFORM[field]}))
    assert changed.fingerprint() != SPEC.fingerprint()


@given(specs, specs)
def test_specs_are_equal_exactly_when_their_fingerprints_are(one, other):
    """Two specs share a fingerprint if and only if they are equal."""
    assert (one == other) == (one.fingerprint() == other.fingerprint())
    assert one.fingerprint() == replace(one).fingerprint()


@given(specs)
def test_a_spec_survives_its_json(spec):
    """Written as JSON and read again, a spec is equal, hashable, and has its fingerprint."""
    again = TrunkSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.fingerprint() == spec.fingerprint()


@pytest.mark.parametrize("change", [{"pooling": "mean"}, {"decoder": "newer"}, {"transform": {"flip": True}}])
def test_what_a_newer_version_wrote_is_not_read_as_ours(change):
    """A key or a value that this version does not know is a ValueError, never ignored."""
    document = json.loads(json.dumps(SPEC.to_json()))
    if "transform" in change:
        change = {"transform": {**document["transform"], "flip": True}}
    with pytest.raises(ValueError, match=r"does not know|expected"):
        TrunkSpec.from_json({**document, **change})


@pytest.mark.parametrize("key", ["arch", "weights_sha256", "transform"])
def test_a_spec_that_lacks_a_key_is_not_completed(key):
    """What has no default cannot be left out."""
    document = SPEC.to_json()
    del document[key]
    with pytest.raises(ValueError, match=f"no {key}"):
        TrunkSpec.from_json(document)


@pytest.mark.parametrize(
    "change",
    [
        {"layer": "max"}, {"layer": "cls@0"}, {"layer": "cls@2"}, {"layer": "grid0"}, {"layer": "name:"},
        {"layer": "name:a/b"}, {"layer": "cls"}, {"layer": None}, {"compute": "float64"}, {"config": ""},
        {"positions": "own"},
        {"config": "22"}, {"arch": "timm:"}, {"arch": ":a"}, {"arch": "a:b:c"}, {"arch": "hf:a/b/c"},
        {"arch": "hf:a/.."}, {"arch": "hf:../b"},
        {"compute": "float32"}, {"stored": "int8"}, {"stored": "float32"}, {"decoder": "pillow"}, {"decoder": 1},
        {"arch": "a/b"}, {"arch": ""}, {"arch": ".."}, {"arch": 3}, {"arch": "a" * 101}, {"weights_sha256": "abc"},
        {"weights_sha256": "AB" * 32}, {"weights_sha256": 0}, {"transform": []}, {"transform": None}, {"more": 1},
    ],
)  # fmt: skip
def test_a_spec_of_another_make_is_refused(change):
    """Each MUST of docs/format.md on `spec`: values that are named there, each of its type, and none at its default."""
    with pytest.raises(ValueError):  # noqa: PT011 (each says something else)
        TrunkSpec.from_json({**json.loads(json.dumps(SPEC.to_json())), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"resize": 224.5}, {"resize": True}, {"resize": 0}, {"resize": -1}, {"resize": "256"}, {"resize": 10**9},
        {"crop": 224.5}, {"crop": 224.0}, {"crop": None}, {"mean": [0.5, 0.5]}, {"mean": [0.5] * 4}, {"mean": 0.5},
        {"mean": [True, 0, 0]}, {"mean": ["0.5"] * 3}, {"mean": [float("nan")] * 3}, {"mean": [10**400] * 3},
        {"std": [0.0, 1.0, 1.0]}, {"std": [-1.0, 1.0, 1.0]}, {"std": [float("inf")] * 3}, {"std": "abc"},
        {"interpolation": "lanczos3"}, {"fit": "longer"}, {"fit": "shorter"}, {"height": 0}, {"height": 1.5},
        {"resize_height": 0}, {"resize_height": True}, {"placement": "round"}, {"placement": "ceil"},
 {"interpolation": "bilinear"}, {"antialias": False}, {"antialias": True},
        {"antialias": 1}, {"exif": "ignore"}, {"exif": "rotate"}, {"modes": "grey"}, {"modes": "rgb"}, {"flip": True},
        {"decoder": "nvjpeg"},
    ],
)  # fmt: skip
def test_a_transform_of_another_make_is_refused(change):
    """So is each MUST on `transform`."""
    document = json.loads(json.dumps(SPEC.to_json()))
    with pytest.raises(ValueError):  # noqa: PT011 (each says something else)
        TrunkSpec.from_json({**document, "transform": {**document["transform"], **change}})


@pytest.mark.parametrize(
    "view",
    [
        [], None, "flip", {}, {"number": 0}, {"number": 100}, {"number": True}, {"number": 1.0}, {"number": "1"},
        {"seed": 1}, {"number": 1, "seed": 0}, {"number": 1, "seed": -1}, {"number": 1, "seed": 10**18},
        {"number": 1, "flip": 0}, {"number": 1, "flip": 0.0}, {"number": 1, "flip": True}, {"number": 1, "crop": 1.5},
        {"number": 1, "color": float("nan")}, {"number": 1, "color": "0.4"}, {"number": 1, "blur": 0.1},
    ],
)  # fmt: skip
def test_a_view_of_another_make_is_refused(view):
    """So is each MUST on `view`."""
    with pytest.raises(ValueError):  # noqa: PT011 (each says something else)
        TrunkSpec.from_json({**json.loads(json.dumps(SPEC.to_json())), "view": view})
