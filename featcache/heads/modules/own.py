"""A head of one's own: made, looked at once, and its errors as sentences that name it.

What makes it is called with two arguments by position, the width of a row and the number of outputs, as torch.nn.Linear
is. It gets rows (batch, width) float32; of a layer of tokens, (batch, tokens, width). It returns (batch, outputs).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from featcache.errors import FeatcacheError, UsageError
from featcache.heads import HeadConfig
from featcache.recipe import find_head_maker, head_path
from featcache.trunks import is_out_of_memory
from featcache.trunks.libraries import describe_error, import_object

_PROBED = 2  # rows


class OverTokens(nn.Module):
    """A head of one's own over the tokens of an image: rows (batch, tokens x width) become (batch, tokens, width)."""

    def __init__(self, head: nn.Module, tokens: int) -> None:
        super().__init__()
        self.head, self.tokens = head, tokens

    def forward(self, rows: Tensor) -> Tensor:
        """Return what the head makes of the tokens, (batch, outputs)."""
        outputs: Tensor = self.head(rows.reshape(-1, self.tokens, rows.shape[1] // self.tokens))
        return outputs


class Deployed(nn.Module):
    """A trained head of one's own with what stands before and behind it: (x - mean) inverse_std, and temperature."""

    mean: Tensor
    inverse_std: Tensor
    number_mean: Tensor  # of heads on numbers alone
    number_deviation: Tensor

    def __init__(self, head: nn.Module, mean: Tensor, inverse_std: Tensor) -> None:
        """Take the trained head, and the mean (width,) and 1 / the deviation (width,) of the rows that it learnt from.

        Args:
            head: from standardized rows to outputs.
            mean: zeros where the head takes rows as they are.
            inverse_std: ones where it does.
        """
        super().__init__()
        self.head, self.temperature = head, 1.0
        self.has_units = False
        self.register_buffer("mean", mean)
        self.register_buffer("inverse_std", inverse_std)

    def answer_in_units(self, mean: Tensor, deviation: Tensor) -> None:
        """Have numbers answered in their own units: output x deviation + mean, both (outputs,).

        Args:
            mean: of each number over the rows that the head learnt from.
            deviation: of the same.
        """
        self.has_units = True
        self.register_buffer("number_mean", mean)
        self.register_buffer("number_deviation", deviation)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the outputs of rows, divided by the temperature; of numbers in their own units.

        Args:
            rows: (batch, width) embeddings, as the trunk gave them.
        """
        outputs: Tensor = self.head((rows - self.mean) * self.inverse_std) / self.temperature
        return outputs * self.number_deviation + self.number_mean if self.has_units else outputs


def build_own(config: HeadConfig, width: int, classes: int) -> nn.Module:
    """Return the module of a head of one's own, once it has answered two rows.

    Args:
        config: the head's settings.
        width: of an embedding.
        classes: how many there are.

    Raises:
        UsageError: it cannot be imported or made, has nothing to train, or returns something else than it must.
        CacheError: nobody has typed its path.
    """
    tokens = config.tokens
    if tokens and width % tokens:
        raise UsageError(f"--tokens {tokens}: {tokens:,} tokens do not divide an embedding of {width:,} numbers")
    module = _make(config.head, width // (tokens or 1), classes)
    head = OverTokens(module, tokens) if tokens else module
    _probe(head, config, width, classes)
    if not any(parameter.requires_grad for parameter in head.parameters()):
        raise UsageError(f"--head {head_path(config.head)}: it has no parameters to train")
    return head


@contextmanager
def explain_own_failure(config: HeadConfig, rows: Tensor) -> Iterator[None]:
    """Turn what the forward of a head of one's own raises into one sentence; a lack of memory stays what it is.

    Args:
        config: the head's settings; of any other head nothing is changed.
        rows: what it was given.

    Raises:
        UsageError: anything was raised within.
    """
    with _own_code(config.head, f"its forward fails on rows {tuple(rows.shape)}") if config.is_own else nullcontext():
        yield


def _make(name: str, width: int, classes: int) -> nn.Module:
    """Return a new module.

    Raises:
        UsageError: it cannot be imported or made.
        CacheError: nobody has typed its path.
    """
    maker: Any = find_head_maker(name)
    if maker is None:
        maker = import_object(head_path(name), option="--head")
    if isinstance(maker, nn.Module):
        with _own_code(name, "it cannot be copied"):
            return copy.deepcopy(maker).cpu().float()
    if not callable(maker):
        raise UsageError(f"--head {head_path(name)}: it is {maker!r}, expected a class or function that makes a module")
    with _own_code(name, f"calling it with (width, outputs) = ({width}, {classes}) failed"):
        module = maker(width, classes)
    if not isinstance(module, nn.Module):
        raise UsageError(f"--head {head_path(name)}: it returned {type(module).__name__}, expected a torch.nn.Module")
    return module


def _probe(head: nn.Module, config: HeadConfig, width: int, classes: int) -> None:
    """Raise a UsageError unless a head gives one finite output a class for each of two rows."""
    rows, is_training = torch.zeros(_PROBED, width), head.training
    with torch.no_grad(), explain_own_failure(config, rows):
        outputs = head.eval()(rows)
    head.train(is_training)
    if not isinstance(outputs, Tensor):
        found = f"a {type(outputs).__name__}"
    elif outputs.shape != (_PROBED, classes):
        found = f"outputs {tuple(outputs.shape)}"
    elif outputs.dtype != torch.float32:
        found = f"outputs of {outputs.dtype}"
    else:
        return
    raise UsageError(
        f"--head {head_path(config.head)}: for rows {tuple(rows.shape)} its forward gives {found}, expected float32 "
        f"({_PROBED}, {classes}): one number for each class"
    )


@contextmanager
def _own_code(name: str, what: str) -> Iterator[None]:
    """Turn what a user's own code raises into one sentence."""
    try:
        yield
    except FeatcacheError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        raise UsageError(f"--head {head_path(name)}: {what}: {describe_error(error)}") from None
