"""A network as an object: the `torch.nn.Module` that a program hands over as `arch=`, in place of a name."""

import re
import sys
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from featcache.files import hash_tensors

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_PREFIX = "object:"
_objects: "weakref.WeakValueDictionary[str, Module]" = weakref.WeakValueDictionary()


def is_network(value: Any) -> bool:
    """Return whether a value is a `torch.nn.Module`; torch is not imported for it.

    Args:
        value: anything.
    """
    torch = sys.modules.get("torch")  # whoever has a module has imported it
    return torch is not None and isinstance(value, torch.nn.Module)


class _IsModule(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return is_network(value)


class NetworkObject(metaclass=_IsModule):
    """The type of a `torch.nn.Module` among a function's arguments; torch is not imported for it."""

    in_words = "a torch.nn.Module"

    @staticmethod
    def convert_argument(value: "Module") -> str:
        """Return the name that stands for a module from here on: that of its class, and the hash of its tensors.

        The same tensors in a module of the same class have the same name, today and in another process. The module is
        remembered under it for as long as the program keeps it.

        Args:
            value: The module, wherever its tensors are.

        Raises:
            ValueError: it has a tensor without a shape, of a lazy layer.
        """
        lazy = [
            name for name, tensor in value.state_dict().items() if type(tensor).__name__.startswith("Uninitialized")
        ]
        if lazy:
            raise ValueError(f"{lazy[0]} has no shape before a first forward; give its layer its width")
        word = re.sub("[^A-Za-z0-9_]", "_", type(value).__name__)[:80]
        name = f"{_PREFIX}{word}-{hash_module(value)[:8]}"
        _objects[name] = value
        return name


if TYPE_CHECKING:
    NetworkName: TypeAlias = Any
else:  # what functions take as `arch`; once their arguments are checked, it is a name
    NetworkName = str | NetworkObject


def hash_module(module: "Module") -> str:
    """Return the hash of a module's tensors, 64 hex digits: the same wherever they are, and in whichever precision.

    Args:
        module: its tensors have shapes.
    """
    return hash_tensors(_plain_tensors(module))


def _plain_tensors(module: "Module") -> "dict[str, Tensor]":
    """Return what identifies a module: its tensors on the CPU, those of real numbers as float32.

    Args:
        module: Wherever its tensors are, and in whichever precision.
    """
    state = {name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {name: value.cpu().float() if value.is_floating_point() else value.cpu() for name, value in state.items()}


def is_network_object(arch: str) -> bool:
    """Return whether a name stands for a module that a program handed over.

    Args:
        arch: As a spec has it.
    """
    return arch.startswith(_PREFIX)


def find_network_object(arch: str) -> "Module | None":
    """Return the module that was handed over under a name; None where this program has no such one.

    Args:
        arch: As `NetworkObject.convert_argument` returned it.
    """
    return _objects.get(arch)
