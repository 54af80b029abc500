"""export_model: a head and its trunk as one file for other tools: torchvision's own network, or ONNX."""

import contextlib
import importlib.util
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import MachineError, UsageError
from featcache.files import describe_target, expand_home, publish, translate_os_errors
from featcache.heads.saved import rank_models
from featcache.listing import readable
from featcache.prediction.description_path import description_path
from featcache.prediction.head_module import HeadModule, make_head_module
from featcache.prediction.library_model import (
    build_library_network,
    build_vision_transformer,
    describe_network,
    describe_steps,
    describe_vision_transformer,
    explain_onnx_failure,
    require_equal_onnx,
)
from featcache.prediction.model import NO_PROBABILITIES, HeadWithTrunk, open_head
from featcache.prediction.serialized import to_onnx, to_state_dict
from featcache.recipe import LABEL, LABELS, TEMPORAL, KeptHeadOptions
from featcache.trunks import ARCHITECTURES

MODEL_SUFFIXES = (".pt", ".onnx")
UNIT_LENGTH = "each embedding is divided by its Euclidean length before the last layer"


@dataclass(frozen=True, slots=True)
class Exported:
    """The files that `export_model` wrote."""

    model: Path
    about: Path  # the transform and the class names, JSON
    parameters: int
    outputs: int
    head: str
    notes: tuple[str, ...]
    handle: str = ""  # the head as `compare` lists it: "#3 lr0.1-1a2b3c4d"
    chosen: str = ""  # which head "best" or "latest" stood for, and why, in a sentence

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache export-model --json`."""
        return {
            "model": readable(str(self.model)),
            "about": readable(str(self.about)),
            "parameters": self.parameters,
            "outputs": self.outputs,
            "head": self.head,
            "notes": list(self.notes),
            "chosen": self.chosen or None,
        }


@checked
def export_model(head: str | None, to: str | Path, **options: Unpack[KeptHeadOptions]) -> Exported:
    """Write trunk and head as one network, and beside it its transform and class names.

    `model.pt` is a state dict for torchvision's class (`vit_b_16(num_classes=N)`, strict); `model.onnx` takes `pixels`
    (n, 3, crop, crop) float32, normalised, and gives `logits` (n, N). A head can be exported, and any linear
    classifier: logreg, ridge, lda or linear-svm; of an mlp, the JSON says which `heads` torchvision's class then has.
    The largest of the `logits` is the model's answer; the JSON says whether their softmax is its probabilities.

    Args:
        head: as for `predict`.
        to: the file; its suffix .pt or .onnx says in which format. Transform and names go to `model.json` beside it; to
            `model.onnx.json` (`model.pt.json`) where `model.json` is there and not about this file.
        **options: those of `featcache.load`.

    Returns:
        Where both files are, which head it was, and what a user of the file must know.

    Raises:
        UsageError: the recipe; `to` ends in something else, or its folder does not exist; the model is not linear; or
            it takes features of several trunks, which are no one network (several layers of one are).
        CacheError: no such head, or a damaged one; or its trunk's weights are not here, or others.
        MachineError: it cannot be written; or ONNX is asked for and not installed.
    """
    to = Path(expand_home(to))
    if to.suffix.lower() not in MODEL_SUFFIXES:
        error = UsageError(f"--to {readable(str(to))}: expected a name that ends in {' or '.join(MODEL_SUFFIXES)}")
        raise error.correct("--to", str(to.with_suffix(MODEL_SUFFIXES[0])))
    if not to.parent.is_dir() or to.is_dir():
        error = UsageError(f"--to {readable(str(to))}: expected a file in a folder that exists")
        raise error.correct("--to", to.with_suffix(to.suffix.lower()).name)
    about = description_path(to)
    for target in (to, about):
        if problem := describe_target(target):
            raise UsageError(f"{readable(str(target))}: {problem}; name another file with --to")
    if to.suffix.lower() == ".onnx" and importlib.util.find_spec("onnx") is None:
        reason = "ONNX files are written with onnx, which is not installed: pip install 'featcache[onnx]', or write .pt"
        raise MachineError(reason).correct("--to", str(to.with_suffix(".pt")))
    model = open_head(head, **options)
    tail = make_head_module(model.saved, model.temperature)
    if tail is None:
        raise _no_layer_error(head, model, DatasetRequest(**options))
    if _is_normalized(model) and to.suffix.lower() == ".pt":
        raise _needs_onnx(to)
    is_own = _is_own_vit(model)
    trunk = model.only_trunk
    classes = len(model.saved.classes)
    network = build_vision_transformer(trunk, tail, classes) if is_own else build_library_network(model, tail.module)
    if _is_normalized(model):
        _normalize_embeddings(network, [part.dim or 0 for part in model.store.parts])
    serialize = {".pt": to_state_dict, ".onnx": to_onnx}[to.suffix.lower()]
    parameters = sum(value.numel() for value in network.parameters())
    with translate_os_errors(to):
        explained = tail.own_class or ("" if is_own else trunk.spec.arch)
        with explain_onnx_failure(explained) if explained else contextlib.nullcontext():
            content = serialize(network, trunk.transform.input_size)
            if explained and to.suffix.lower() == ".onnx":
                require_equal_onnx(network, content, trunk.transform.input_size, explained)
        publish(to, content, replace=True)
        description = json.dumps(_describe_model(model, tail, to, parameters), indent=2, ensure_ascii=True)
        publish(about, description.encode() + b"\n", replace=True)
    return Exported(
        model=to,
        about=about,
        parameters=parameters,
        outputs=len(model.saved.classes),
        head=model.saved.name,
        notes=_notes(model, tail, to),
        handle=model.handle,
        chosen=model.chosen,
    )


def _no_layer_error(typed: str | None, model: HeadWithTrunk, request: DatasetRequest) -> UsageError:
    """Return why a classifier is not exported, and which head can be."""
    is_over_clips = model.saved.layer is not None and model.saved.layer.config.is_over_clips
    reason = (
        f"{model.saved.name} takes the frames of a clip, and the network one image"
        if is_over_clips
        else (
            f"{model.saved.name}: only a head of `featcache fit-head`, or logreg, ridge, lda or linear-svm of "
            f"`featcache fit`, is the last part of a network"
        )
    )
    if model.which is None:  # a folder was named
        return UsageError(reason)
    ranked = (one for one in rank_models(request)[0] if one.is_head and not one.has_diverged)
    head = next((one.name for one in ranked if one.kind != TEMPORAL), None)
    fit = request.command_line("fit-head")
    best = (
        f"the best head that can be exported is {head}: name it" if head else f"there is no such head yet: run `{fit}`"
    )
    chosen = f" ({model.chosen})" if model.chosen else ""
    error = UsageError(f"{reason}; {best}.{chosen}")
    return error.correct(typed or "best", head) if head else error


def _is_normalized(model: HeadWithTrunk) -> bool:
    """Return whether the head takes embeddings of length 1."""
    return bool(model.saved.settings.get("normalize", "none") != "none")


def _unit_length(model: HeadWithTrunk) -> str:
    """Return what is done to embeddings before the last layer of a head that takes them at length 1."""
    widths = [str(part.dim) for part in model.store.parts]
    if len(widths) == 1:
        return UNIT_LENGTH
    return f"each part of an embedding, {' and '.join(widths)} columns, is divided by its length before the last layer"


def _needs_onnx(to: Path) -> UsageError:
    """Return the error that torchvision's class, whose state dict the file is to be, has no layer that normalises."""
    return UsageError(
        f"--to {readable(str(to))}: the head was trained with --normalize l2, and torchvision's class does not scale "
        f"embeddings to length 1; expected a name that ends in .onnx"
    ).correct("--to", str(to.with_suffix(".onnx")))


def _normalize_embeddings(network: Any, widths: Sequence[int]) -> None:
    """Have a network scale its embeddings to length 1 before the head, as `featcache.heads.unit_rows` does."""
    import torch

    class UnitLength(torch.nn.Module):
        """Scales the parts of rows, (any number, dim), each to length 1."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ends = list(itertools.accumulate(widths))
            parts = [x[:, end - width : end] for width, end in zip(widths, ends, strict=True)]
            return torch.cat([torch.nn.functional.normalize(part, dim=1) for part in parts], dim=1)

    network.heads = torch.nn.Sequential(UnitLength(), network.heads)


def _describe_model(model: HeadWithTrunk, tail: HeadModule, to: Path, parameters: int) -> dict[str, Any]:
    """Return all that a stranger needs to use the file, as JSON values."""
    trunk = model.only_trunk
    spec = trunk.spec
    temperature = model.temperature if tail.is_softmax or model.targets == LABELS else None
    return {
        "model": to.name,
        "network": _describe_constructor(model, tail) if _is_own_vit(model) else describe_network(model, tail.words),
        "parameters": parameters,
        "classes": list(model.saved.classes),
        "transform": {
            **asdict(spec.transform),
            "in_words": describe_steps(spec.transform),
        },
        "input": {
            "name": "pixels",
            "shape": ["images", 3, *spec.transform.input_size],
            "dtype": "float32",
        },
        "output": {
            "name": "logits",
            "shape": ["images", len(model.saved.classes)],
            "softmax": "not applied",
            "gives_probabilities": tail.is_softmax,
            "divided_by_temperature": temperature,
            "temperature": None if temperature is None else {"value": temperature, "applied": True},
            **_describe_targets(model),
        },
        "embedding": _unit_length(model) if _is_normalized(model) else None,
        "head": model.saved.name,
        "trunk": {"weights": trunk.weights_name, "sha256": spec.weights_sha256, "compute": spec.compute},
        "notes": [
            *_notes(model, tail, to),
            *_temperature_notes(temperature, "softmax" if tail.is_softmax else "sigmoid"),
        ],
    }


def _describe_targets(model: HeadWithTrunk) -> dict[str, Any]:
    """Return what the outputs are where they are no logits of classes: of labels or numbers."""
    if model.targets == LABEL:
        return {}
    thresholds = {"thresholds": list(model.thresholds)} if model.targets == LABELS else {}
    return {"targets": model.targets, "sigmoid": "not applied" if thresholds else None, **thresholds}


def _temperature_notes(temperature: float | None, function: str) -> list[str]:
    """Return a note that nobody has to divide by the head's temperature once more."""
    if temperature is None:
        return []
    return [
        f"the outputs are already divided by the head's temperature {temperature:.4g}: their {function} is what "
        f"`featcache predict` prints"
    ]


def _is_own_vit(model: HeadWithTrunk) -> bool:
    """Return whether the trunk is one of our own ViTs, on its class token: the file is then torchvision's network."""
    trunk = model.only_trunk
    return trunk.spec.arch in ARCHITECTURES and trunk.layers == ("cls",)


def _describe_constructor(model: HeadWithTrunk, tail: HeadModule) -> str:
    """Return how torchvision makes the network that a model.pt of one of our own ViTs is for."""
    maker = describe_vision_transformer(model.only_trunk, f"num_classes={len(model.saved.classes)}")
    return maker if tail.is_layer else f"{maker}, with heads = {tail.words}"


def _notes(model: HeadWithTrunk, tail: HeadModule, to: Path) -> tuple[str, ...]:
    """Return what everyone who uses the file should know, as sentences."""
    notes = [note for note in model.notes if note != NO_PROBABILITIES]
    if _is_normalized(model):
        notes.append(f"between trunk and head, which torchvision's class does not have: {_unit_length(model)}")
    if tail.needs_featcache and to.suffix.lower() == ".pt":
        notes.append(
            f"building this head needs featcache ({tail.words}); an .onnx file, where it can be written, does not"
        )
    if tail.own_class and to.suffix.lower() == ".pt":
        notes.append(f"building this head needs its class, {tail.own_class}; an .onnx file does not")
    if model.targets != LABEL:
        notes.append(
            "the sigmoid of an output is the probability of its label, which is predicted from its threshold on"
            if model.targets == LABELS
            else "the outputs are the numbers, in their own units"
        )
    elif not tail.is_softmax:
        notes.append(
            f"the largest of the outputs is the answer of {model.saved.name}; their softmax is not its probabilities"
        )
    return (*notes, *_precision_notes(model))


def _precision_notes(model: HeadWithTrunk) -> tuple[str, ...]:
    """Return a note where the file computes in another precision than the embeddings that the head was trained on."""
    specs = [part.trunk.spec for part in model.store.parts]
    compute, is_rounded = specs[0].compute, any(spec.stored != "float32" for spec in specs)
    if compute == "float32" and not is_rounded:
        return ()
    how = " and ".join(filter(None, [compute * (compute != "float32"), "stored as float16" * is_rounded]))
    return (
        f"the head was trained on embeddings in {how}; this file computes in float32, so its predictions differ a "
        f"little from those of `featcache predict`",
    )
