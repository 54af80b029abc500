"""A head as the last part of a network that is exported: a torch module, and what a stranger must know of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featcache.heads.modules import ModuleHead
from featcache.heads.saved import SavedModel, predicts_targets
from featcache.recipe import LABEL, LABELS, head_path

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, eq=False)
class HeadModule:
    """What stands behind the trunk.

    Attributes:
        module: from embeddings (rows, width) to outputs (rows, classes), for inference.
        words: the expression of torch that makes such a module.
        is_layer: whether it is one linear layer, which torchvision's own class has.
        is_softmax: whether the softmax of the outputs is the model's own probabilities.
        own_class: of a head of one's own, its import path; "" of all others.
    """

    module: "nn.Module"
    words: str
    is_layer: bool
    is_softmax: bool
    own_class: str = ""

    @property
    def needs_featcache(self) -> bool:
        """Whether a class of featcache makes the module, and none of torch's."""
        return not self.own_class and not self.words.startswith("torch.")


def make_head_module(saved: SavedModel, temperature: float | None = None) -> HeadModule | None:
    """Return a model as a torch module; None where it is no linear one, and no module that takes a single image.

    Args:
        saved: a head or a classifier.
        temperature: what its outputs are divided by, so that their softmax, or the sigmoid of labels, is what `predict`
            gives; None: by nothing. Where neither is taken of them, they are left as they are.

    Raises:
        ValueError: its tensors are not those of such a head.
    """
    import torch

    from featcache.heads.modules import describe_module  # which imports torch

    if saved.layer is not None and saved.layer.config.is_over_clips:
        return None
    if isinstance(saved.layer, ModuleHead) and saved.layer.config.is_own:
        return _make_own(saved.layer, temperature)
    if isinstance(saved.layer, ModuleHead):
        module = saved.layer.module()
        if temperature is not None:
            _divide_outputs([part for part in module.modules() if isinstance(part, torch.nn.Linear)][-1], temperature)
        is_softmax = saved.layer.config.targets == LABEL
        return HeadModule(module, describe_module(module), is_layer=False, is_softmax=is_softmax)
    layer = saved.output_layer
    if layer is None:
        return None
    linear = torch.nn.Linear(layer.weight.shape[1], layer.weight.shape[0], device="meta")
    state = {"weight": torch.from_numpy(layer.weight), "bias": torch.from_numpy(layer.bias)}
    linear.load_state_dict(state, assign=True)
    linear.requires_grad_(requires_grad=False)
    is_of_labels = predicts_targets(saved) and saved.target_kind == LABELS
    if temperature is not None and (layer.is_softmax or is_of_labels):
        _divide_outputs(linear, temperature)
    return HeadModule(linear, "torch.nn.Linear", is_layer=True, is_softmax=layer.is_softmax)


def _make_own(head: ModuleHead, temperature: float | None) -> HeadModule:
    """Return a head of one's own as a torch module; what stands before and behind the class is a part of it."""
    from featcache.heads.modules import Deployed

    module, path = head.module(), head_path(head.config.head)
    assert isinstance(module, Deployed)  # noqa: S101 (a head of one's own is)
    module.temperature = temperature or 1.0
    words = f"(heads.head({path}) of (x - heads.mean) * heads.inverse_std) / {module.temperature:.6g}"
    words += " * heads.number_deviation + heads.number_mean" if module.has_units else ""
    return HeadModule(module, words, is_layer=False, is_softmax=head.config.targets == LABEL, own_class=path)


def _divide_outputs(linear: "nn.Linear", temperature: float) -> None:
    """Divide what a torch.nn.Linear gives, in double precision; its tensors are replaced, not changed."""
    import torch

    for name, part in list(linear.named_parameters()):
        divided = (part.detach().double() / temperature).float()
        setattr(linear, name, torch.nn.Parameter(divided, requires_grad=False))
