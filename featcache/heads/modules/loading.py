"""From the tensors of a head to its torch module, and its answers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featcache.heads.modules.build import build_module, seeded_module
from featcache.heads.modules.module_head import INVERSE_STD, MEAN, MODULE, ModuleHead
from featcache.heads.modules.own import Deployed, explain_own_failure

ROWS = 1_024  # computed at a time, so that a row's logits do not depend on how many rows are asked for
MOST_NUMBERS = 2**24  # of these rows together: 64 MiB


def collect_tensors(
    module: nn.Module, standardization: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return what is kept of a trained module: `ModuleHead.tensors`.

    Args:
        module: the module.
        standardization: the two parts of the rows' mean, (2, width), and 1 / their deviation, (width,); None where the
            head takes rows as they are.
    """
    tensors = {f"{MODULE}{name}": value.cpu().numpy().copy() for name, value in module.state_dict().items()}
    if standardization is not None:
        tensors[MEAN], tensors[INVERSE_STD] = standardization
    return tensors


def load_module(head: ModuleHead) -> nn.Module:
    """Return the module of a head, for inference; it standardizes rows where the head does.

    Args:
        head: the head.

    Raises:
        ValueError: a tensor is missing, one too many, or of another type or shape than the settings say.
    """
    module = _checked_module(head)
    if head.config.is_own:
        module = _deploy(module, head)
    elif head.config.standardize:
        _fold_standardization(module, head)
    return module.eval().requires_grad_(requires_grad=False)


@torch.inference_mode()
def compute_logits(head: ModuleHead, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the logits of rows, (rows, classes) float32.

    Args:
        head: the head.
        x: (rows, width) float32, of length 1 where the head takes such rows.

    Raises:
        ValueError: as `load_module`.
    """
    module = _checked_module(head).eval()
    logits = np.empty((len(x), head.classes), np.float32)
    width = head.config.row_width(head.width)
    size = max(1, min(ROWS, MOST_NUMBERS // width))
    for start in range(0, len(x), size):
        block = torch.zeros(size, width)
        rows = len(x[start : start + size])
        block[:rows] = torch.tensor(x[start : start + size])
        _standardize_(block, head)
        with explain_own_failure(head.config, block):
            logits[start : start + size] = module(block)[:rows].numpy()
    if head.targets.mean:
        logits = (logits * np.array(head.targets.deviation) + np.array(head.targets.mean)).astype(np.float32)
    return logits


def check_tensors(head: ModuleHead) -> None:
    """Raise a ValueError unless the tensors of a head are those that its settings say.

    Raises:
        ValueError: as `load_module`.
    """
    expected = _unfilled_module(head).state_dict()
    wanted = {f"{MODULE}{name}": (tuple(value.shape), _numpy_name(value)) for name, value in expected.items()}
    if head.config.standardize:
        wanted |= {MEAN: ((2, head.width), "float32"), INVERSE_STD: ((head.width,), "float32")}
    present = {name: (array.shape, array.dtype.name) for name, array in head.tensors.items()}
    if different := sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name)):
        name = different[0]
        raise ValueError(f"tensor {name!r} is {_shown(present.get(name))}, expected {_shown(wanted.get(name))}")


def _checked_module(head: ModuleHead) -> nn.Module:
    """Return the module of a head with its tensors in it."""
    check_tensors(head)
    module = _unfilled_module(head)
    names = [name.removeprefix(MODULE) for name in head.tensors if name.startswith(MODULE)]
    state = {name: torch.tensor(head.tensors[f"{MODULE}{name}"]) for name in names}
    module.load_state_dict(state, strict=True, assign=True)
    return module


def _unfilled_module(head: ModuleHead) -> nn.Module:
    """Return the module of a head before its tensors are in it: one of our own takes no memory for them."""
    if head.config.is_own:  # its constructor may compute, and it may hold more than its state dict
        return seeded_module(head.config, head.width, head.classes)
    with torch.device("meta"):
        return build_module(head.config, head.width, head.classes)


def _deploy(module: nn.Module, head: ModuleHead) -> nn.Module:
    """Return a module of one's own behind the standardization that the head learned with, if there is one."""
    if head.config.standardize:
        mean = torch.tensor(head.tensors[MEAN], dtype=torch.float64).sum(0).float()
        deployed = Deployed(module, mean, torch.tensor(head.tensors[INVERSE_STD]))
    else:
        deployed = Deployed(module, torch.zeros(head.width), torch.ones(head.width))
    if head.targets.mean:
        deployed.answer_in_units(torch.tensor(head.targets.mean), torch.tensor(head.targets.deviation))
    return deployed


def _standardize_(rows: Tensor, head: ModuleHead) -> None:
    """Standardize rows in place, as the training did."""
    if not head.config.standardize:
        return
    high, low = (torch.tensor(part) for part in head.tensors[MEAN])
    rows.sub_(high).sub_(low).mul_(torch.tensor(head.tensors[INVERSE_STD]))


def _fold_standardization(module: nn.Module, head: ModuleHead) -> None:
    """Have the first layer of a module take rows that are not standardized: W / s, and the bias less (W / s) m."""
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Linear))
    mean = torch.tensor(head.tensors[MEAN], dtype=torch.float64).sum(0)
    with torch.no_grad():
        weight = first.weight.double() * torch.tensor(head.tensors[INVERSE_STD], dtype=torch.float64)
        bias = 0 if first.bias is None else first.bias.double()
        first.bias = nn.Parameter((bias - weight @ mean).float())
        first.weight.copy_(weight)


def _numpy_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shown(kind: Any) -> str:
    return "none" if kind is None else f"{kind[1]} {kind[0]}"
