"""The small trunk, as tensors and as a source."""

import pytest
import torch

from featcache.recipe.recipe import TrunkSection
from featcache.trunks import WeightsMemo
from featcache.trunks.architectures import architecture
from featcache.trunks.source import TrunkSource
from tests.trunks.saving import load_tensors

NANO = architecture("vit_nano_16")


@pytest.fixture(scope="module")
def tensors(nano) -> dict[str, torch.Tensor]:
    return load_tensors(NANO, str(nano.weights))


NANO, B_16 = architecture("vit_nano_16"), architecture("vit_b_16")


@pytest.fixture
def source(nano, tmp_path):
    def make(**section: object) -> TrunkSource:
        asked = {"arch": NANO.name, "weights": str(nano.weights), **section}
        return TrunkSource(TrunkSection(**asked), WeightsMemo(tmp_path / "cache"))

    return make
