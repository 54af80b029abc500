"""Checkpoints that are not those of the network that is named, of every library; and the page that lists them.

`python -m tests.trunks.libraries.bad_checkpoints` makes the files, names each as somebody would by mistake, and writes
what is said into docs/reference/checkpoints.md.
"""

import json
import os
import pickle
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from featcache.errors import FeatcacheError
from featcache.recipe import TrunkSection
from featcache.trunks import WeightsMemo, name_trunk
from tests.trunks.libraries.hub import hub_answers, mask_cache

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "checkpoints.md"
MARKS = ("<!-- table: python -m tests.trunks.libraries.bad_checkpoints -->\n", "<!-- /table -->")
TRANSFORM = "resize=36,crop=32,mean=0.5,std=0.5"
State = dict[str, Any]


class Code:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@dataclass(frozen=True)
class Network:
    """One library's small network: how it is named, and its tensors."""

    label: str
    arch: str
    state: State
    positions: str = ""  # its position embeddings
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One input: what it is, and the settings that name it."""

    label: str
    what: str
    section: dict[str, Any]


def networks(folder: Path) -> list[Network]:
    """Build a small network of each library; transformers' lie in folders."""
    import open_clip
    import timm
    import torchvision

    from featcache.trunks.architectures import architecture
    from featcache.trunks.weights import build_network
    from tests.trunks.libraries.folders import FAMILIES

    (folder / "tiny-clip.json").write_text(json.dumps(_OPEN_CLIP))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    nano = build_network(architecture("vit_nano_16"), 64).state_dict()
    found = [
        Network("torchvision's ViT", "vit_nano_16", nano, "encoder.pos_embedding"),
        Network("torchvision", "squeezenet1_1", torchvision.models.squeezenet1_1(num_classes=2).state_dict()),
        Network("timm", "timm:test_vit", timm.create_model("test_vit", num_classes=2).state_dict(), "pos_embed"),
        Network("timm (ResNet)", "timm:test_resnet", timm.create_model("test_resnet", num_classes=2).state_dict()),
        Network(
            "open_clip", "open_clip:tiny-clip",
            {f"visual.{k}": v for k, v in open_clip.create_model("tiny-clip").visual.state_dict().items()},
            "visual.positional_embedding",
        ),
        Network(
            "a module of one's own", "tests.trunks.libraries.own_network:make", _own().state_dict(),
            settings={"transform": TRANSFORM},
        ),
    ]  # fmt: skip
    for family, positions in _FOLDERS.items():
        network = FAMILIES[family].save(folder / family)
        found.append(Network(f"transformers ({family})", f"hf:{folder / family}", network.state_dict(), positions))
    return found


_FOLDERS = {
    "vit": "vit.embeddings.position_embeddings", "dinov2": "dinov2.embeddings.position_embeddings",
    "clip": "vision_model.embeddings.position_embedding.weight", "resnet": "", "swin": "",
}  # fmt: skip
_OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 99, "width": 32, "heads": 2, "layers": 1},
}


def _own() -> Any:
    from tests.trunks.libraries.own_network import make

    return make()


def _first(state: State, network: Network) -> str:
    """Return a tensor in the middle of the network that is neither a classifier's nor counts anything."""
    names = [
        name for name, value in state.items()
        if value.is_floating_point() and not re.search(r"head|classifier|fc|pooler|text|logit|running", name)
        and name != network.positions
    ]  # fmt: skip
    return names[len(names) // 2]


def _changed(state: State, name: str, change: Callable[[Any], Any]) -> State:
    return {key: change(value) if key == name else value for key, value in state.items()}


# What is wrong -> the file of it, from the right tensors.
def files(folder: Path, network: Network, other: Network) -> dict[str, Path]:
    """Write every kind of wrong file for a network, and return where."""
    state = {name: value.clone() for name, value in network.state.items()}
    middle = _first(state, network)
    half = {name: value for number, (name, value) in enumerate(state.items()) if number < len(state) // 2}
    states: dict[str, Any] = {
        "weights of another network": other.state,
        "half of the tensors": half,
        "a tensor is missing": {name: value for name, value in state.items() if name != middle},
        "a tensor too many": state | {f"{middle.rpartition('.')[0]}.extra": torch.ones(3)},
        "a tensor of another shape": _changed(state, middle, lambda value: torch.cat([value, value])),
        "every name changed": {f"x{number}": value for number, value in enumerate(state.values())},
        "one name changed": {(f"{name}_" if name == middle else name): value for name, value in state.items()},
        "nan in a tensor": _changed(state, middle, lambda value: value * float("nan")),
        "two sets that differ": {"model": state, "model_ema": _changed(state, middle, lambda value: value + 1)},
        "numbers, no tensors": {"epoch": 3},
    }
    if network.positions:
        states["positions of another image size"] = _changed(
            state, network.positions, lambda value: torch.cat([value, value[..., -20:, :]], dim=-2)
        )
    paths = {what: folder / f"{number}.pth" for number, what in enumerate(states)}
    for what, path in paths.items():
        torch.save(states[what], path)
    whole, texts = folder / "whole.safetensors", {"a web page": "<!doctype html><p>404", "a git-lfs pointer": _LFS}
    save_file({name: value.contiguous() for name, value in state.items()}, whole)
    for what, data in {
        "cut short (safetensors)": whole.read_bytes()[:-100], "empty": b"",
        **{what: text.encode() for what, text in texts.items()},
    }.items():  # fmt: skip
        paths[what] = folder / f"{len(paths)}.safetensors"
        paths[what].write_bytes(data)
    paths["cut short (.pth)"] = folder / "cut.pth"
    torch.save(state, folder / "cut.pth")
    os.truncate(folder / "cut.pth", (folder / "cut.pth").stat().st_size // 2)
    paths["code in it (pickle)"] = folder / "code.pth"
    torch.save({**state, "extra": Code()}, folder / "code.pth")
    paths["a bare pickle"] = folder / "bare.pth"
    (folder / "bare.pth").write_bytes(pickle.dumps({"x": Code()}))
    return {"nothing is wrong": whole, **paths, "no such file": folder / "none.pth"}


_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def cases(folder: Path) -> Iterator[Case]:
    """Yield every case; its files lie below a folder, which has to be empty."""
    known = networks(folder)
    for network, other in zip(known, [*known[1:], known[0]], strict=True):
        place = folder / re.sub(r"\W+", "_", network.label)
        place.mkdir()
        for what, path in files(place, network, other).items():
            yield Case(network.label, what, {"arch": network.arch, "weights": str(path), **network.settings})
    yield from folders(folder)
    yield from names()


def folders(folder: Path) -> Iterator[Case]:
    """Yield the cases of transformers' folders that are not whole, or not what they seem."""
    config = json.loads((folder / "vit" / "config.json").read_text())
    changes: dict[str, Callable[[Path], Any]] = {
        "no config.json": lambda path: (path / "config.json").unlink(),
        "no preprocessor_config.json": lambda path: (path / "preprocessor_config.json").unlink(),
        "no weights": lambda path: (path / "model.safetensors").unlink(),
        "config.json cut short": lambda path: os.truncate(path / "config.json", 100),
        "code of its own (auto_map)": _config(config | {"auto_map": {"AutoModel": "modeling.Net"}}),
        "a type that is not known": _config(config | {"model_type": "vit_of_tomorrow"}),
        "a network of text": _config({"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2}),
        "quantized weights": _config(config | {"quantization_config": {"quant_method": "bitsandbytes"}}),
        "a configuration of more blocks": _config(config | {"num_hidden_layers": 4}),
        "a configuration of fewer blocks": _config(config | {"num_hidden_layers": 2}),
        "a configuration of another width": _config(config | {"hidden_size": 64}),
        "a configuration that cannot be": _config(config | {"num_attention_heads": 5}),
        "a configuration of another image size": _config(config | {"image_size": 64}),
        "weights cut short": lambda path: os.truncate(path / "model.safetensors", 5000),
        "a part of the weights is missing": _index({"a": "model-00001-of-00002.safetensors"}),
        "an index that points elsewhere": _index({"a": "../vit/model.safetensors"}),
    }
    for number, (what, change) in enumerate(changes.items()):
        path = folder / f"vit-{number}"
        shutil.copytree(folder / "vit", path)
        change(path)
        yield Case("transformers, a folder", what, {"arch": f"hf:{path}", "weights": "pretrained"})
    renamed = folder / "renamed"
    shutil.copytree(folder / "dinov2", renamed)
    state = {
        name.replace("encoder.layer.1.", "encoder.layers.1."): value
        for name, value in _state(renamed / "model.safetensors").items()
    }
    save_file(state, renamed / "model.safetensors", {"format": "pt"})
    section = {"arch": f"hf:{renamed}", "weights": "pretrained"}
    yield Case("transformers, a folder", "renamed tensors of one block (DINOv2)", section)


def _state(file: Path) -> State:
    from safetensors.torch import load_file

    return dict(load_file(file))


def _config(document: dict[str, Any]) -> Callable[[Path], Any]:
    return lambda path: (path / "config.json").write_text(json.dumps(document))


def _index(places: dict[str, str]) -> Callable[[Path], Any]:
    def change(path: Path) -> None:
        (path / "model.safetensors").unlink()
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))

    return change


def names() -> Iterator[Case]:
    """Yield the cases of names that no library has, and of weights that are not here while the hub is out of reach."""
    for label, arch, weights in (
        ("torchvision", "resnett50", "random"), ("torchvision", "squeezenet1_1", "IMAGENET22K"),
        ("timm", "timm:resnet5000", "random"), ("timm", "timm:test_vit.r160_in1k", "pretrained"),
        ("open_clip", "open_clip:ViT-B-33", "random"), ("open_clip", "open_clip:ViT-B-32", "openai2"),
        ("transformers", "hf:nobody/nothing-0", "pretrained"), ("transformers", "hf:/none/at/all", "pretrained"),
        ("transformers", "hf:nobody/nothing-0", "IMAGENET1K_V2"),
        ("a module of one's own", "tests.trunks.nowhere:make", "random"),
    ):  # fmt: skip
        yield Case(label, "a name", {"arch": arch, "weights": weights})


def message(case: Case, folder: Path, cache: Path) -> str:
    """Return what is said of a case, with the exit code; "loaded" where nothing is."""
    try:
        name_trunk(TrunkSection(**case.section), WeightsMemo(cache, is_read_only=True)).spec("float32")
    except FeatcacheError as error:
        text = f"{error} (exit {error.exit_code})"
    else:
        return "loaded"
    text = text.replace(case.section["weights"], "FILE") if os.sep in case.section["weights"] else text
    text = re.sub(r"\([\d,]+ bytes\)", "(N bytes)", text.replace(str(folder), "FOLDER").replace(os.getcwd(), "HERE"))
    return mask_cache(re.sub(r"transformers \d+\.\d+\.\d+\S*", "transformers 5", text))


@contextmanager
def no_network() -> Iterator[None]:
    """Keep every hub out of reach, and its cache empty."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE
    with tempfile.TemporaryDirectory() as empty:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE = True, empty
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE = before


def rows(folder: Path) -> list[tuple[str, str, str]]:
    """Return every case: the network, what was named, what is said."""
    cache = folder / "cache"
    with no_network():
        listed = [(case.label, _describe(case), message(case, folder, cache)) for case in cases(folder)]
    return [*listed, *hub_answers()]


def _describe(case: Case) -> str:
    arch, weights = case.section["arch"], case.section["weights"]
    return case.what if case.what != "a name" else f"`--arch {arch} --weights {weights}`"


def page(found: list[tuple[str, str, str]], text: str) -> str:
    """Return the page with its tables: one a network, one a kind of name."""
    parts = []
    for label in dict.fromkeys(label for label, _, _ in found):
        lines = [f"| {what} | {_cell(said)} |" for name, what, said in found if name == label]
        parts += [f"## {label[0].upper()}{label[1:]}\n", "| input | message |\n|---|---|", *lines, ""]
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    return before + MARKS[0] + "\n" + "\n".join(parts) + "\n" + MARKS[1] + after


def _cell(text: str) -> str:
    first, *more = text.split("\n")
    return first.replace("|", "\\|").replace("<", "&lt;") + (" … (with the lines that do it)" if more else "")


def main() -> int:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        found = rows(Path(folder).resolve())
    PAGE.write_text(page(found, PAGE.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
