"""Heads over clips: what they see, what padding does (nothing), and what only they can learn."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featcache
from featcache import DataError, UsageError
from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.modules.build import seeded_module
from featcache.heads.modules.clips import features_by_clip, group_frames
from featcache.heads.training.samplers import sampled
from featcache.heads.training.train import train_heads
from tests.builders import digests, extracted, features, fit_head, listing, new_store, reopen

FRAMES, WIDTH = 8, 6
BASE = HeadConfig(head="temporal", frames=FRAMES, epochs=20, batch_size=32, lr=0.01, optimizer="adam")
KINDS = ("mean", "attention", "convolution")


def ordered_clips(clips: int = 150, seed: int = 0, width: int = WIDTH, longest: int = 12) -> Features:
    """Clips of 2 to `longest` frames, half of them of kind A, half of kind B: which comes first is the class."""
    rng = np.random.default_rng(seed)
    x, y, names = [], [], []
    kinds = 3 * np.random.default_rng(99).standard_normal((2, width))
    for clip in range(clips):
        label, half = int(rng.integers(2)), int(rng.integers(1, longest // 2 + 1))
        kind = np.repeat([label, 1 - label], half)
        x.append(kinds[kind] + 0.3 * rng.standard_normal((2 * half, width)))
        y += [label] * 2 * half
        names += [f"clip {clip}"] * 2 * half
    return features(np.concatenate(x), y, ("first", "second"), clips=tuple(names), split="train")


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=40), st.integers(1, 9))
def test_a_clip_is_a_row_of_its_frames_in_time_order(clips, frames):
    """At most so many frames, evenly spread with both ends, then zeros; an image without a clip is a clip of one."""
    x = np.arange(1, 2 * len(clips) + 1, dtype=np.float32).reshape(-1, 2)
    rows = group_frames(x, clips, frames)
    expected: dict[object, list[int]] = {}
    for image, clip in enumerate(clips):
        expected.setdefault(clip or image, []).append(image)
    assert rows.x.shape == (len(expected), 2 * frames + 1)
    for row, (number, images) in enumerate(expected.items()):
        length = int(rows.x[row, -1])
        assert length == min(len(images), frames)
        taken = rows.x[row, :-1].reshape(frames, 2)
        picked = [int(np.flatnonzero((x == frame).all(axis=1))[0]) for frame in taken[:length]]
        assert picked == sorted(set(picked))
        assert set(picked) <= set(images)
        assert picked[0] == images[0]
        assert length == 1 or picked[-1] == images[-1]
        assert not taken[length:].any()
        assert (rows.first[row], number in (clips[images[0]], images[0])) == (images[0], True)
        assert all(rows.clip_of[image] == row for image in images)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, FRAMES), st.sampled_from([0.0, 7.5, 1e30, math.inf, math.nan]))
def test_padding_changes_nothing(kind, length, junk):
    """Whatever stands behind the last frame, logits and gradients have the same bits."""
    module = seeded_module(replace(BASE, over_time=kind), WIDTH, 3)
    clip = torch.randn(2, FRAMES * WIDTH + 1, generator=torch.Generator().manual_seed(length))
    clip[:, length * WIDTH :] = 0
    clip[:, -1] = length
    padded = clip.clone()
    padded[:, length * WIDTH : -1] = junk
    results = []
    for rows in (clip, padded):
        module.zero_grad()
        logits = module(rows)
        logits.square().sum().backward()
        results.append([logits.detach(), *(value.grad.clone() for value in module.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_is_computed_as_its_frames_alone_would_be(kind):
    """Without a mask and without padding, by the formulas, every logit is the module's to 1e-5."""
    module = seeded_module(replace(BASE, over_time=kind), WIDTH, 3).eval()
    for length in range(1, FRAMES + 1):
        x = torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(length))
        row = torch.from_numpy(group_frames(x.numpy(), ["clip"] * length, FRAMES).x)
        with torch.inference_mode():
            torch.testing.assert_close(module(row)[0], by_formula(module, kind, x), rtol=1e-5, atol=1e-5)


def by_formula(module: nn.Module, kind: str, x: torch.Tensor) -> torch.Tensor:
    """The logits of one clip, frame by frame."""
    state = dict(module.named_parameters())
    if kind == "mean":
        pooled = sum(x) / len(x)
    elif kind == "attention":
        scores = []
        for number, frame in enumerate(x):
            place = number / max(len(x) - 1, 1)
            waves = [wave * math.pi * place for wave in range(1, 5)]
            time = torch.tensor([2 * place - 1, *map(math.sin, waves), *map(math.cos, waves)])
            scores.append(state["content.weight"] @ frame + state["content.bias"] + state["time.weight"] @ time)
        weights = torch.stack(scores).softmax(dim=0)
        pooled = torch.cat([sum(weight * frame for weight, frame in zip(of, x, strict=True)) for of in weights.t()])
    else:
        hidden = [(state["project.weight"] @ frame + state["project.bias"]).relu() for frame in x]
        hidden = [torch.zeros_like(hidden[0]), *hidden, torch.zeros_like(hidden[0])]
        taps, bias = state["neighbours.weight"], state["neighbours.bias"]
        out = [
            (sum(taps[:, :, tap] @ hidden[place + tap] for tap in range(3)) + bias).relu() for place in range(len(x))
        ]
        pooled = sum(out) / len(x)
    return state["output.weight"] @ pooled + state["output.bias"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_what_a_plain_loop_of_torch_makes(kind):
    """A loop over clips without masks, with torch's own Adam, ends within 1e-5 of every tensor's norm."""
    train = features_by_clip(ordered_clips(40), FRAMES)
    config = replace(BASE, over_time=kind, epochs=5, batch_size=16, schedule="constant")
    (head,) = train_heads(train, None, [config])
    module = seeded_module(config, WIDTH, 2)
    optimizer = torch.optim.Adam(module.parameters(), lr=config.lr)
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    for order in sampled(y, config):
        for start in range(0, len(y), config.batch_size):
            rows = order[start : start + config.batch_size]
            clips = [x[row, :-1].reshape(FRAMES, WIDTH)[: int(x[row, -1])] for row in rows]
            logits = torch.stack([by_formula(module, kind, clip) for clip in clips])
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, y[rows]).backward()
            nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            optimizer.step()
    for name, value in module.named_parameters():
        if name == "content.bias":  # the same for all frames of a softmax: its gradient is rounding alone
            continue
        other = value.detach().numpy()
        assert np.linalg.norm(head.tensors[f"module.{name}"] - other) < 1e-5 * np.linalg.norm(other), name


def test_a_head_in_a_stack_is_itself_alone():
    """Whatever stands beside it, a head has the bits that it has alone."""
    train, val = (features_by_clip(ordered_clips(40, seed), FRAMES) for seed in (0, 1))
    configs = [replace(BASE, epochs=3, over_time=kind) for kind in KINDS]
    stacked = train_heads(train, val, configs)
    for config, head in zip(configs, stacked, strict=True):
        (alone,) = train_heads(train, val, [config])
        assert all(np.array_equal(value, alone.tensors[name]) for name, value in head.tensors.items())
        assert head.val == alone.val


def record_clips(cache: Path, splits: dict[str, Features]):
    """A store with these frames, as an extract of /data/toy leaves it."""
    store = new_store(cache)
    with store.writer() as writer:
        for split, of in splits.items():
            names = digests(f"{split}{row}" for row in range(len(of.y)))
            writer.append(names, of.x)
            rows = listing(of.y, split=split, classes=of.classes, clips=of.clips)
            writer.commit(extracted(rows, names))
    return reopen(store)


SPLITS = {"train": ordered_clips(120), "val": ordered_clips(60, 1), "test": ordered_clips(100, 2)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Frames whose class is in their order, a linear head, and a head over clips for each way."""
    cache = tmp_path_factory.mktemp("clips")
    record_clips(cache, SPLITS)
    fit_head(cache, 0.01, epochs=20, head_name="frames")
    for kind in KINDS:
        fit_head(
            cache, 0.01, head="temporal", frames=FRAMES, over_time=kind, optimizer="adam", epochs=40, head_name=kind
        )
    return cache


def test_order_is_learnt_where_the_vote_stays_at_chance(cache):
    """By clip of test: attention and convolution reach 95 %, the vote over frames and the mean do not know better."""
    by = {"data": "/data/toy", "cache": cache, "by": "clip"}
    accuracy = {name: featcache.evaluate(name, **by).accuracy for name in ("frames", *KINDS)}
    assert min(accuracy["attention"], accuracy["convolution"]) >= 0.95
    assert 0.3 < accuracy["frames"] < 0.7
    assert 0.3 < accuracy["mean"] < 0.7


def test_a_head_over_clips_stands_beside_the_vote_with_its_interval(cache):
    """The paired difference by clip has an interval that leaves out 0."""
    pair = featcache.evaluate_pair("attention", "frames", data="/data/toy", cache=cache, by="clip")
    assert pair.intervals.accuracy.low > 0
    images = featcache.predict_split("attention", data="/data/toy", cache=cache)
    for clip in set(images.clips):
        inside = [row for row, name in enumerate(images.clips) if name == clip]
        assert len({int(images.predicted[row]) for row in inside}) == 1


def test_it_comes_back_as_it_was_saved_and_a_single_frame_is_a_clip(cache):
    """Read again it answers the same; on an image alone, too."""
    from featcache.dataset import DatasetRequest
    from featcache.heads.saved import find_head, load_model, read_temperature

    choice = find_head(DatasetRequest(data="/data/toy", cache=cache), "attention")
    saved = load_model(choice.folder, choice.store)
    assert saved.kind == "temporal"
    probabilities = saved.predict_probabilities(SPLITS["test"].x[:3])
    assert probabilities.shape == (3, 2)
    assert np.allclose(probabilities.sum(axis=1), 1)
    kept = read_temperature(saved.folder)
    assert kept is not None
    assert kept.rows == 60  # clips of val


def test_what_cannot_be_is_one_sentence(cache, tmp_path):
    """No clips, a clip of two classes, rows on disk, settings of other heads, a network for single images."""
    frames = ordered_clips(4)
    with pytest.raises(DataError, match="no image of split 'train' belongs to a clip"):
        features_by_clip(replace(frames, clips=("",) * len(frames.y)), FRAMES)
    with pytest.raises(DataError, match=r"clip 'all' has images of '\w+' and '\w+'"):
        features_by_clip(replace(frames, clips=("all",) * len(frames.y)), FRAMES)
    with pytest.raises(UsageError, match="--from-disk: a head over clips"):
        fit_head(cache, head="temporal", from_disk=True)
    with pytest.raises(UsageError, match="--standardize has no effect with --head temporal"):
        fit_head(cache, head="temporal", standardize=True)
    with pytest.raises(UsageError, match="takes the frames of a clip, and the network one image"):
        featcache.export_model("attention", tmp_path / "model.pt", data="/data/toy", cache=cache)
    with pytest.raises(UsageError, match=r"the best head that can be exported is lr0\.01-batch16-epochs20-"):
        featcache.export_model("best", tmp_path / "model.pt", data="/data/toy", cache=cache)
    with pytest.raises(UsageError, match="--over-time has no effect with --head linear: it is a setting of temporal"):
        fit_head(cache, over_time="mean")
