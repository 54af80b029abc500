"""A torch.nn.Module of one's own as a head: trained, kept without its code, and imported only where it is typed."""

import numpy as np
import pytest
import torch
from torch import nn

import featcache
from featcache import UsageError
from featcache.heads.config import HeadConfig
from featcache.heads.modules.build import seeded_module
from featcache.heads.saved import verify_heads
from featcache.heads.training.train import train_heads
from featcache.recipe import is_own_head, read_recipe
from featcache.recipe.own_head import HeadObject
from tests.builders import DIM, cluster_rows, clusters, digests, extracted, fit_head, listing, new_store, record, reopen

WHERE = "/data/toy"
CODE = """
import pathlib
from torch import nn

pathlib.Path("imported").touch()

class Gated(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.gate, self.output = nn.Linear(width, width), nn.Linear(width, outputs)

    def forward(self, x):
        return self.output(x * self.gate(x).sigmoid())
"""


class Gated(nn.Module):
    """A head of one's own, with dropout and what is no part of its state dict."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.gate, self.output = nn.Linear(width, width), nn.Linear(width, outputs)
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, outputs)."""
        return self.output(self.dropout(x * self.gate(x).sigmoid() * self.scale))


class OverTime(nn.Module):
    """Takes tokens, (batch, tokens, width)."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.output = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, outputs)."""
        assert x.ndim == 3
        return self.output(x.amax(dim=1))


@pytest.fixture
def store(tmp_path):
    return record(tmp_path, {split: cluster_rows(seed) for seed, split in enumerate(("train", "val", "test"))})


def name_of(maker) -> str:
    return HeadObject.convert_argument(maker)


def test_a_head_in_a_grid_is_itself_alone_and_a_plain_loop_of_torch():
    """Bit for bit beside others, dropout included; torch.nn.Linear as a head is the loop that one writes with it."""
    train = clusters(0, 90)
    name = name_of(Gated)
    configs = [HeadConfig(head=name, lr=lr, epochs=3, batch_size=32) for lr in (0.01, 0.1)]
    both = train_heads(train, None, configs)
    for config, beside in zip(configs, both, strict=True):
        (alone,) = train_heads(train, None, [config])
        assert all(np.array_equal(alone.tensors[key], value) for key, value in beside.tensors.items())
    linear = HeadConfig(head=name_of(nn.Linear), lr=0.05, epochs=2, batch_size=90, schedule="constant", clip_norm=None)
    (head,) = train_heads(train, None, [linear])
    layer = seeded_module(linear, DIM, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=linear.momentum)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layer(torch.from_numpy(train.x)), torch.from_numpy(train.y)).backward()
        optimizer.step()
    np.testing.assert_allclose(head.tensors["module.weight"], layer.weight.detach().numpy(), atol=1e-5)


def test_a_class_goes_the_way_of_every_head(store):
    """Grid, val, standardization, report, temperature, cross-validation; kept as safetensors with its name."""
    found = fit_head(store.cache, [0.01, 0.1], head=Gated, standardize=True, optimizer="adam", epochs=20)
    best = found.best
    assert best.name.startswith("Gated-lr")
    assert best.kind == name_of(Gated)
    assert {path.suffix for path in best.folder.iterdir()} == {".safetensors", ".json", ".csv"}
    evaluation = featcache.evaluate(best.name, data=WHERE, cache=store.cache, split="val")
    assert evaluation.macro_recall == pytest.approx(best.val.macro_recall)
    rows = featcache.load("val", data=WHERE, cache=store.cache).x
    with torch.inference_mode():
        deployed = best.head.module()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(deployed, best.head.logits(rows), atol=1e-4)
    unseen = featcache.cross_validate(2, 0.1, head=Gated, epochs=2, device="cpu", data=WHERE, cache=store.cache)
    assert unseen.head.startswith("Gated-")


def test_an_object_begins_with_its_own_weights(store):
    """Trained with a rate that moves nothing, its answers are those of the object; another object has another name."""
    layer = nn.Linear(DIM, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(18.0).view(3, 6) / 10)
    best = fit_head(store.cache, 1e-12, head=layer, epochs=1).best
    np.testing.assert_allclose(best.head.tensors["module.weight"], layer.weight.detach().numpy(), atol=1e-6)
    other = fit_head(store.cache, 1e-12, head=nn.Linear(DIM, 3), epochs=1).best
    assert other.name != best.name
    assert featcache.evaluate(best.name, data=WHERE, cache=store.cache).rows == 40


def test_tokens_come_as_tokens(tmp_path):
    """Of a layer grid2, four tokens of an image: the class gets (batch, 4, width)."""
    empty = new_store(tmp_path, layer="grid2")
    with empty.writer() as writer:
        for split in ("train", "val"):
            x, y = cluster_rows(len(split), 30)
            rows = np.repeat(x, 4, axis=1)
            names = digests(f"{split}{row}" for row in range(30))
            writer.append(names, rows)
            writer.commit(extracted(listing(y, split=split), names))
    reopen(empty)
    best = fit_head(tmp_path, head=OverTime, epochs=2).best
    assert best.head.config.tokens == 4
    assert best.head.tensors["module.head.output.weight"].shape == (3, DIM)
    assert featcache.evaluate(best.name, data=WHERE, cache=tmp_path).rows == 30


@pytest.fixture
def typed(store, run, tmp_path):
    """The command line in a folder with `mine.py`; and the words that name the data."""
    (tmp_path / "here" / "mine.py").write_text(CODE)
    return run, ["--data", WHERE, "--cache", store.cache], tmp_path / "here" / "imported"


def test_a_class_is_imported_only_where_it_is_typed(typed, store):
    """fit-head --head trains it; compare and verify then import nothing, report names the option, and takes it."""
    run, where, imported = typed
    fitted = run("fit-head", *where, "--head", "mine:Gated", "--lr", "0.1", "--epochs", "2", "--head-name", "gated")
    assert fitted.code == 0, fitted.err
    assert fitted.out.splitlines()[-1].endswith("--head-class mine:Gated")
    imported.unlink()
    assert run("compare", *where).code == 0
    problems: list[object] = []
    verify_heads(store.root, problems, [])
    assert problems == []
    refused = run("report", "gated", *where)
    assert refused.code == 3
    assert "is imported, which runs its code, only where it is typed. Add --head-class mine:Gated" in refused.err
    assert not imported.exists()
    shown = run("report", "gated", *where, "--head-class", "mine:Gated")
    assert shown.code == 0, shown.err
    assert "--head-class mine:Gated" in shown.out.splitlines()[-1]
    assert imported.exists()


def test_a_recipe_never_names_one(tmp_path):
    """The sentence says what to type instead; the module is not looked for."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "toy"\n[data]\nroot = "/data"\n[head]\nhead = "mine:Gated"\n')
    with pytest.raises(UsageError, match=r"would import a module, which runs its code.*type --head mine:Gated"):
        read_recipe(recipe)


@pytest.mark.parametrize(
    ("maker", "sentence"),
    [
        (lambda _width, _outputs: 3, "it returned int, expected a torch.nn.Module"),
        (lambda width, _outputs: nn.Linear(width, 7), r"forward gives outputs \(2, 7\), expected float32 \(2, 3\)"),
        (lambda width, outputs: nn.Linear(width + 1, outputs), "its forward fails on rows"),
        (lambda _width, _outputs: nn.Flatten(), r"gives outputs \(2, 6\)"),
        (lambda _width: nn.Flatten(), r"calling it with \(width, outputs\) = \(6, 3\) failed: TypeError"),
    ],
)
def test_what_is_no_head_is_one_sentence(store, maker, sentence):
    """What it returned, what was expected, and where its own code failed."""
    with pytest.raises(UsageError, match=sentence):
        fit_head(store.cache, head=maker)


def test_names_of_heads_and_of_classes():
    """A module and a name behind a colon; everything else is a misspelt head, and the nearest is named."""
    assert is_own_head("torch.nn:Linear")
    assert is_own_head("a.b:C.d@0123abcd")
    assert not any(map(is_own_head, ("mlp", "a.b", ":x", "a:", "a/b:c", "a:b c")))
    with pytest.raises(UsageError, match=r"expected linear, mlp, attention, temporal or package.module:Class"):
        HeadConfig(head="mpl")
    with pytest.raises(UsageError, match="--hidden has no effect with --head"):
        featcache.fit_head(0.1, head=Gated, hidden=8, data=WHERE, cache="nowhere")


def test_a_missing_module_is_one_sentence(typed):
    """The current folder and the installed packages were looked through."""
    run, where, _ = typed
    for word, sentence in (("none:Gated", "there is no module none in"), ("mine:Gate", "did you mean Gated?")):
        refused = run("fit-head", *where, "--head", word, "--lr", "0.1")
        assert refused.code == 2
        assert f"--head {word}" in refused.err
        assert sentence in refused.err


def test_export_takes_its_module_along(store):
    """Its state dict holds the class's tensors and what stands around them."""
    from featcache.prediction.head_module import make_head_module

    best = fit_head(store.cache, head=Gated, standardize=True).best
    tail = make_head_module(best, 2.0)
    assert tail.own_class == name_of(Gated)
    assert set(tail.module.state_dict()) >= {"head.gate.weight", "mean", "inverse_std"}
    rows = torch.randn(5, DIM)
    with torch.inference_mode():
        np.testing.assert_allclose(tail.module(rows).numpy() * 2, best.head.logits(rows.numpy()), atol=1e-4)
