"""Heads over tokens: what they compute, and what the mean of the tokens cannot know."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import featcache
from featcache import CacheError, UsageError
from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.modules.build import seeded_module
from featcache.heads.training.samplers import sampled
from featcache.heads.training.train import train_heads
from tests.builders import digests, extracted, features, fit_head, listing, new_store, reopen

TOKENS, WIDTH = 16, 8
BASE = HeadConfig(head="attention", tokens=TOKENS, epochs=30, batch_size=64, lr=0.01, optimizer="adam")


def one_token_in(rows: int = 400, seed: int = 0) -> Features:
    """One token of an image has a mark, and beside the mark its class; all others have a class each, and no mark."""
    rng = np.random.default_rng(seed)
    x = np.zeros((rows, TOKENS, WIDTH))
    y = rng.integers(0, 3, rows)
    of_token = rng.integers(0, 3, (rows, TOKENS))
    place = rng.integers(0, TOKENS, rows)
    of_token[np.arange(rows), place] = y
    x[np.arange(rows)[:, None], np.arange(TOKENS), of_token] = 2
    x[np.arange(rows), place, 5] = 2
    x += 0.2 * rng.standard_normal(x.shape)
    return features(x.reshape(rows, -1), y, 3, split="train")


def by_formula(module: nn.Module, row: torch.Tensor) -> torch.Tensor:
    """The logits of one image, token by token."""
    x = row.reshape(TOKENS, WIDTH)
    scores = torch.stack([module.queries.weight @ token + module.queries.bias for token in x])
    weights = scores.softmax(dim=0)
    pooled = [sum(weight * token for weight, token in zip(of, x, strict=True)) for of in weights.t()]
    if type(module).__name__ == "TokenAttentionByClass":
        of_classes = zip(module.output.weight, pooled, strict=True)
        return torch.stack([weight @ mean for weight, mean in of_classes]) + module.output.bias
    return module.output(torch.cat(pooled))


@pytest.mark.parametrize("queries", [0, 1, 4])
def test_a_head_is_what_a_plain_loop_of_torch_makes(queries):
    """A loop over images and tokens, with torch's own SGD, ends within 1e-5 of every tensor's norm."""
    train = one_token_in(60)
    config = replace(BASE, queries=queries, epochs=3, optimizer="sgd", schedule="constant", batch_size=16)
    (head,) = train_heads(train, None, [config])
    module = seeded_module(config, TOKENS * WIDTH, 3)
    optimizer = torch.optim.SGD(module.parameters(), lr=config.lr, momentum=config.momentum)
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    for order in sampled(y, config):
        for start in range(0, len(y), config.batch_size):
            rows = order[start : start + config.batch_size]
            optimizer.zero_grad()
            logits = torch.stack([by_formula(module, row) for row in x[rows]])
            nn.functional.cross_entropy(logits, y[rows]).backward()
            nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            optimizer.step()
    for name, value in module.named_parameters():
        other = value.detach().numpy()
        assert np.linalg.norm(head.tensors[f"module.{name}"] - other) < 1e-5 * np.linalg.norm(other), name


def test_a_head_in_a_stack_is_itself_alone():
    """Whatever stands beside it, a head has the bits that it has alone."""
    train = one_token_in(100)
    configs = [replace(BASE, epochs=3, queries=queries) for queries in (0, 2, 8)]
    for config, head in zip(configs, train_heads(train, None, configs), strict=True):
        (alone,) = train_heads(train, None, [config])
        assert all(np.array_equal(value, alone.tensors[name]) for name, value in head.tensors.items())


def record_tokens(cache: Path, layer: str = "grid4") -> None:
    """A store with train and test rows of a layer, as an extract of /data/toy leaves it."""
    store = new_store(cache, layer=layer)
    with store.writer() as writer:
        for split, of in {"train": one_token_in(), "val": one_token_in(150, 2), "test": one_token_in(200, 1)}.items():
            names = digests(f"{split}{row}" for row in range(len(of.y)))
            writer.append(names, of.x)
            writer.commit(extracted(listing(of.y, split=split, classes=of.classes), names))
    reopen(store)


def test_attention_finds_the_one_token_that_the_mean_drowns(tmp_path):
    """Of classes that one marked token of sixteen tells, attention knows nearly all of test, linear heads much less."""
    record_tokens(tmp_path)
    where = {"data": "/data/toy", "cache": tmp_path}
    fit_head(tmp_path, 0.01, head="attention", optimizer="adam", epochs=60, batch_size=64, head_name="attention")
    fit_head(tmp_path, 0.01, optimizer="adam", epochs=60, batch_size=64, head_name="linear")
    attention, linear = (featcache.evaluate(name, **where) for name in ("attention", "linear"))
    assert attention.accuracy > 0.95
    assert linear.accuracy < 0.75
    mean = [
        replace(of, x=of.x.reshape(-1, TOKENS, WIDTH).mean(axis=1)) for of in (one_token_in(), one_token_in(200, 1))
    ]
    (head,) = train_heads(mean[0], mean[1], [HeadConfig(lr=0.01, optimizer="adam", epochs=60, batch_size=64)])
    assert head.val.accuracy < 0.75
    pair = featcache.evaluate_pair("attention", "linear", **where)
    assert pair.intervals.accuracy.low > 0


def test_what_cannot_be_is_one_sentence(tmp_path):
    """A layer without tokens, tokens of unknown number, and a number that does not divide."""
    record_tokens(tmp_path / "cls", "cls")
    record_tokens(tmp_path / "tokens", "tokens")
    with pytest.raises(CacheError, match="holds layer cls, one vector an image"):
        fit_head(tmp_path / "cls", head="attention")
    with pytest.raises(UsageError, match="layer tokens does not say how many tokens its 128 numbers are"):
        fit_head(tmp_path / "tokens", head="attention")
    with pytest.raises(UsageError, match="7 tokens do not divide the 128 numbers"):
        fit_head(tmp_path / "tokens", head="attention", tokens=7)
    assert fit_head(tmp_path / "tokens", head="attention", tokens=16, epochs=1).best is not None


def test_cross_validation_knows_the_tokens_of_a_grid(tmp_path):
    """As `fit_head` does: attention over grid4 finds the token, for images that no head has seen."""
    record_tokens(tmp_path)
    found = featcache.cross_validate(
        2, 0.01, head="attention", optimizer="adam", epochs=40, batch_size=64, data="/data/toy", cache=tmp_path
    )
    assert found.unseen.configs[0].tokens == TOKENS
    assert found.evaluation.accuracy > 0.9
