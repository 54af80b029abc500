"""What tests of weights share: the small trunk's tensors, saved in every way, and what a file is refused for."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featcache.errors import MachineError
from featcache.trunks import weights
from featcache.trunks.architectures import architecture

NANO = architecture("vit_nano_16")


def saved(path: Path, state: object) -> str:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def load_tensors(arch, asked: str) -> dict[str, torch.Tensor]:
    return weights.load_with_note(arch, asked)[0]


def refused(asked: str, arch=NANO) -> str:
    with pytest.raises(MachineError) as caught:
        load_tensors(arch, asked)
    assert caught.value.exit_code == 5
    return str(caught.value)


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
