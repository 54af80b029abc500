"""Tensors of a checkpoint that were not used: counted with their place where somebody may have meant them."""

import pytest
import torch

import featcache
from featcache.trunks import weights
from featcache.trunks.architectures import architecture

NANO = architecture("vit_nano_16")


@pytest.fixture(scope="module")
def tensors(nano):
    return torch.load(nano.weights)


def moments(state):
    return {number: {"step": torch.ones(1), "exp_avg": torch.ones(3)} for number, _ in enumerate(state)}


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


AVERAGES = {
    "torch_ema": (
        lambda state, other: {"model": state, "ema": {"decay": 0.9, "shadow_params": list(other.values())}},
        "['ema']['shadow_params']",
    ),
    "a callback of Lightning": (
        lambda state, other: {"state_dict": state, "callbacks": {"EMA": {"ema_weights": list(other.values())}}},
        "['callbacks']['EMA']['ema_weights']",
    ),
    "names without dots": (
        lambda state, other: {
            "state_dict": prefixed("model.", state)
            | {f"model_ema.{name.replace('.', '')}": value for name, value in other.items()}
            | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}
        },
        "['state_dict']['model_ema.…']",
    ),
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_an_average_that_is_not_recognised_is_counted(tmp_path, tensors, kind):
    """How many tensors, and where they stand; what was used is as without them."""
    wrap, place = AVERAGES[kind]
    torch.save(wrap(tensors, {name: value + 1 for name, value in tensors.items()}), tmp_path / "x.pth")
    found, note = weights.load_with_note(NANO, str(tmp_path / "x.pth"))
    assert note.startswith(f"{len(tensors)} further tensors under {place} were not used; ")
    assert "\n" not in note
    assert weights.hash_tensors(found) == weights.hash_tensors(tensors)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: state | {"heads.head.weight": torch.ones(7, 64)},
        lambda state: prefixed("module.", state) | {"n_averaged": torch.tensor(5)},
        lambda state: {"state_dict": prefixed("backbone.", state) | {"fc.weight": torch.ones(2, 64)}},
        lambda state: {"model": state, "optimizer": {"state": moments(state), "param_groups": [{}]}},
        lambda state: {"model": state, "optim_of_mine": moments(state)},
        lambda state: {"state_dict": state, "optimizer_states": [{"state": moments(state), "param_groups": []}]},
        lambda state: {"model": state, "sgd": {0: {"momentum_buffer": torch.ones(2)}}},
        lambda state: {"model": state, "model_ema": {name: value.clone() for name, value in state.items()}},
        lambda state: {"model": state, "rng": torch.get_rng_state(), "loss": [torch.tensor(0.5)], "epoch": 3},
    ],
)
def test_what_nobody_could_mean_needs_no_note(tmp_path, tensors, wrap):
    """Optimizers, counters, a dropped classifier, states of generators, and equal copies."""
    torch.save(wrap(tensors), tmp_path / "x.pth")
    assert weights.load_with_note(NANO, str(tmp_path / "x.pth"))[1] == ""


def test_a_document_that_holds_itself_ends(tmp_path, tensors):
    """Containers are walked through once."""
    loop: list[object] = [torch.ones(3)]
    loop += [loop] * 100
    torch.save({"model": dict(tensors), "loop": loop}, tmp_path / "x.pth")
    note = weights.load_with_note(NANO, str(tmp_path / "x.pth"))[1]
    assert note.startswith("1 further tensor under ['loop'] was not used; ")


def test_extract_says_it_where_the_file_is_read(tmp_path, folder, tensors):
    """In the sentence of the transform; a run that does not read the file says nothing of it."""
    file = tmp_path / "x.pth"
    torch.save({"model": tensors, "ema": {"shadow_params": [value + 1 for value in tensors.values()]}}, file)
    where = {"data": str(folder), "cache": tmp_path / "cache", "arch": NANO.name, "weights": str(file)}
    first, again = (featcache.extract(**where)[0].transform for _ in range(2))
    assert first.startswith(f"{again}; {len(tensors)} further tensors under ['ema']['shadow_params'] were not used")
