"""What is undone of a checkpoint of a library's network, and what is said of it."""

import pytest
import torch

from featcache.errors import MachineError
from featcache.trunks.libraries.torchvision_models import TorchvisionModels

torchvision = pytest.importorskip("torchvision")
NAME = "squeezenet1_1"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return torchvision.models.get_model(NAME).state_dict()


def wrap(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (lambda state: {"state_dict": wrap(state, "module.")}, "the names that begin with 'module.' in ['state_dict']"),
        (lambda state: {"model": wrap(state, "model.")}, "the names that begin with 'model.' in ['model']"),
        (lambda state: {"teacher": wrap(state, "backbone.")}, "the names that begin with 'backbone.' in ['teacher']"),
        (lambda state: wrap(state, "teacher.backbone."), "the names that begin with 'teacher.backbone.'"),
        (lambda state: {"model": state, "model_ema": dict(state)}, "['model']"),
    ],
)
def test_what_was_undone_is_named(tmp_path, state, document, place):
    """Wrappers are taken off, the classifier left out, and the note names both; equal copies are one set."""
    torch.save(document(state), tmp_path / "weights.pth")
    network = TorchvisionModels().load(NAME, str(tmp_path / "weights.pth"), 0)
    assert f"taken from {place}" in network.note
    assert "its classifier was left out (" in network.note
    own = network.module.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own)


def test_an_average_that_differs_is_not_chosen(tmp_path, state):
    """An averaged copy beside the weights is neither taken nor passed over in silence."""
    torch.save({"model": state, "ema": wrap({k: v + 1 for k, v in state.items()}, "module.")}, tmp_path / "weights.pth")
    with pytest.raises(MachineError, match="2 sets of weights of this network, and they differ"):
        TorchvisionModels().load(NAME, str(tmp_path / "weights.pth"), 0)


def test_layers_that_are_kept_are_no_classifier(tmp_path):
    """AlexNet's two hidden layers are called a classifier's: they are loaded, and the note does not name them."""
    state = {name: torch.zeros(value.shape) for name, value in _alexnet().items()}
    torch.save(state, tmp_path / "alexnet.pth")
    note = TorchvisionModels().load("alexnet", str(tmp_path / "alexnet.pth"), 0).note
    assert note == "its classifier was left out (classifier.6.weight, classifier.6.bias)"


def _alexnet():
    with torch.device("meta"):
        return torchvision.models.alexnet().state_dict()


def test_names_of_older_files_are_read(tmp_path):
    """DenseNet's published files, and the first ones of torchvision's ViT, have names that its modules gave up."""
    with torch.device("meta"):
        network = torchvision.models.densenet121().state_dict()
    older = {}
    for name, value in network.items():
        for part in ("norm", "conv"):
            name = name.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2.")
        older[name] = torch.ones(value.shape, dtype=value.dtype)
    torch.save(older, tmp_path / "densenet.pth")
    loaded = TorchvisionModels().load("densenet121", str(tmp_path / "densenet.pth"), 0).module.state_dict()
    assert all(bool((value == 1).all()) for name, value in loaded.items() if not name.endswith("tracked"))


def test_a_damaged_published_file_is_refused(tmp_path, monkeypatch):
    """A published file in torch's cache that is not what was published is not loaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights(NAME).IMAGENET1K_V1.url
    file = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PK\3\4 half a file")
    with pytest.raises(MachineError, match=r"its sha256 does not start with .*: damaged\. Remove it to fetch it again"):
        TorchvisionModels().load(NAME, "IMAGENET1K_V1", 0)
