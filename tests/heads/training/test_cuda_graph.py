"""Heads that are trained by a recording of an epoch are those that are trained without one. On the CPU a recorder does
what a CUDA graph does; where there is CUDA, the graph itself is held against it.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from featcache.heads.training.batches import RowsInMemory
from featcache.heads.training.cuda_graph import RECORDERS, EpochReplay, capture_graph
from featcache.heads.training.stack import TrainingPlan
from featcache.heads.training.standardization import compute_statistics
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from tests.heads.conftest import steps_by
from tests.heads.training.problems import BASE, OPTIONS, TRAIN, VAL, a_config, apart

ATEN = torch.ops.aten


@pytest.fixture(autouse=True, scope="module")
def torchs_operations():
    """What a recording holds; on a CPU heads are trained without them."""
    with steps_by(TorchStack):
        yield


def needs_the_host(func, args) -> bool:
    """Whether CUDA would have to wait for its answer, or is given a number that the host makes for the occasion."""
    if func is ATEN.index.Tensor:  # by whole numbers its shape is known, by a mask it is counted
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return func is ATEN.lift_fresh.default or bool(waits & set(func.tags))


class Recording(TorchDispatchMode):
    """What a CUDA graph holds: every operator with its very tensors, and the host's numbers as they were.

    As in a capture nothing is computed: memory that would be written stays as it is, and new tensors hold nan until a
    replay. What a capture refuses is a RuntimeError here too.
    """

    def __init__(self, device):
        super().__init__()
        self.device, self.replays = torch.device(device).type, 0
        self.launches = []  # operator, arguments, and where its result goes: None where it writes into an argument

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if needs_the_host(func, args):
            raise RuntimeError(f"{func} needs the host")
        writes = func._schema.is_mutable
        result = kwargs.get("out", args[0]) if writes else func(*args, **kwargs)
        if {leaf.device.type for leaf in tree_leaves((args, kwargs, result)) if hasattr(leaf, "device")} != {
            self.device
        }:
            raise RuntimeError(f"{func} takes or gives what does not lie on {self.device}")
        if writes:
            self.launches.append((func, args, kwargs, None))
        elif all(made.alias_info is None for made in func._schema.returns):  # else a view: no launch
            tree_map_only(torch.is_floating_point, lambda made: made.fill_(torch.nan), result)
            self.launches.append((func, args, kwargs, result))
        return result

    def replay(self):
        self.replays += 1
        for func, args, kwargs, result in self.launches:
            computed = func(*args, **kwargs)
            if result is not None:
                result.copy_(computed)


def trained_by_replay(*args, **kwargs):
    """What `train_heads` returns when the CPU has a recorder, and the recordings."""
    recordings = []

    def record(device, run):
        recordings.append(recording := Recording(device))
        with recording:
            run()
        return recording.replay

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECORDERS, "cpu", record)
        return train_heads(*args, **kwargs), recordings


def all_of(head) -> tuple:
    """Everything that a training makes, so that nan equals nan."""
    scores = repr((head.history, head.train, head.val))
    return head.config, head.weight.tobytes(), head.bias.tobytes(), scores, head.best_epoch, head.steps


MAD = replace(BASE, lr=1e30, clip_norm=None, weight_decay=1.0, schedule="constant")
HASTY = replace(BASE, lr=3.0, clip_norm=None, schedule="constant", epochs=BASE.epochs, patience=1)
STACKS = {
    "sgd": [BASE],
    **{option: [replace(BASE, **settings)] for option, settings in OPTIONS.items()},
    "plateau": [replace(BASE, lr=1.0, schedule="plateau", plateau_epochs=1)],
    "patience": [HASTY],
    "whole batches": [replace(BASE, batch_size=150)],
    "one batch": [replace(BASE, batch_size=1_000, optimizer="adam")],
    "a head that diverges": [BASE, MAD, replace(BASE, optimizer="adam")],
    "a head that stops": [HASTY, replace(BASE, optimizer="adamw"), replace(BASE, lr=1.0, schedule="plateau")],
    "all in one": [replace(BASE, **settings) for settings in OPTIONS.values() if "sampler" not in settings],
}


@pytest.mark.parametrize("stack", STACKS)
def test_a_replay_gives_the_same_bits(stack):
    """Weights, history, scores and best epoch are those of a training without a recording, and one epoch is run as
    it is asked for, all others by replay.
    """
    heads, recordings = trained_by_replay(TRAIN, VAL, STACKS[stack])
    assert list(map(all_of, heads)) == list(map(all_of, train_heads(TRAIN, VAL, STACKS[stack])))
    passes = list(dict.fromkeys(head.config.batch_key for head in heads))
    longest = [max(len(head.history) for head in heads if head.config.batch_key == one) for one in passes]
    assert [recording.replays for recording in recordings] == [epochs - 1 for epochs in longest]
    assert min(longest) > 1


@settings(max_examples=15, deadline=None)
@given(configs=st.lists(a_config, min_size=1, max_size=5), val=st.booleans())
def test_any_stack_is_replayed(configs, val):
    """Whatever heads stand side by side, in one pass or in several, a replay gives them the same bits."""
    configs = configs if val else [replace(config, patience=None) for config in configs]
    heads, recordings = trained_by_replay(TRAIN, VAL if val else None, configs)
    assert list(map(all_of, heads)) == list(map(all_of, train_heads(TRAIN, VAL if val else None, configs)))
    assert len(recordings) == len({config.batch_key for config in configs})


def test_a_watch_stops_heads_between_replays():
    """A head that a watch stops after its second epoch keeps what it has through the replays that follow."""

    def watch(epoch, found):
        return [1] if epoch == 2 else []

    configs = [BASE, replace(BASE, optimizer="adam")]
    heads, _ = trained_by_replay(TRAIN, VAL, configs, watch=watch)
    assert [len(head.history) for head in heads] == [6, 2]
    assert list(map(all_of, heads)) == list(map(all_of, train_heads(TRAIN, VAL, configs, watch=watch)))


def test_the_launches_of_a_step():
    """A step of the recipe is 19 launches: in a graph a small one costs a GPU about what any other does."""
    _, (recording,) = trained_by_replay(TRAIN, None, [BASE])
    assert len(recording.launches) == 19 * BASE.steps(len(TRAIN.y)) // BASE.epochs


def test_one_epoch_is_not_recorded():
    """A training of one epoch has nothing to replay."""
    _, recordings = trained_by_replay(TRAIN, None, [replace(BASE, epochs=1)])
    assert recordings == []


def test_what_the_host_counts_is_frozen():
    """The recorder is as strict as a graph: a number that the host counts is repeated, and recording adds nothing."""
    total, counted = torch.zeros(()), []

    def learn(step):
        counted.append(step)
        total.add_(step)
        return total * 2

    recording = Recording("cpu")

    def record(run):
        with recording:
            run()
        return recording.replay

    replay = EpochReplay(learn, record)
    assert replay(1).item() == 2
    twice = replay(10)
    assert (total.item(), twice.item()) == (11, 22)
    assert replay(100) is twice
    assert (total.item(), twice.item(), counted) == (21, 42, [1, 10])


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.bincount(x.long()),
        lambda x: x + torch.tensor(1.0),
        lambda x: x + torch.ones(2, device="meta"),
        lambda x: bool((x > 0).all()),
        lambda x: x.to("meta"),
    ],
)
def test_what_a_capture_refuses_is_refused(asks):
    """An answer that the host waits for, a number that it makes, or memory elsewhere: none of it is recorded."""
    x = torch.ones(2)
    with pytest.raises(RuntimeError), Recording("cpu"):
        asks(x)


@pytest.mark.parametrize("stack", STACKS)
def test_an_epoch_needs_nothing_from_the_host(stack):
    """On a device that is not the host an epoch takes and gives what lies there, waits for nothing, and is the same
    operators as the epoch before.
    """
    configs = [config for config in STACKS[stack] if config.batch_key == STACKS[stack][0].batch_key]
    rows = len(TRAIN.y)
    with torch.inference_mode():
        there = RowsInMemory(TRAIN, "meta")
        plan = TrainingPlan(configs=configs, statistics=compute_statistics(TRAIN, configs), rows=rows, device="meta")
        stack = TorchStack(plan)
        operators = []
        for epoch, walk in enumerate(there.epochs(configs[0])):
            stack.begin_epoch(epoch, [1.0] * len(configs))
            with Recording("meta") as recording:
                stack.train_epoch(walk())
            operators.append([func for func, *_ in recording.launches])
    assert operators == operators[:1] * configs[0].epochs
    assert operators[0].count(ATEN.addmm.out) == 2 * configs[0].steps(rows) // configs[0].epochs


@pytest.mark.parametrize("after", [0, 1, 50])
def test_an_epoch_that_cannot_be_recorded(after, monkeypatch):
    """A recorder that fails, at once or amid the epoch, is warned of once, and the heads are what they are without."""
    asked = 0

    class Failing(Recording):
        def __torch_dispatch__(self, *args, **kwargs):
            if len(self.launches) >= after:
                raise RuntimeError("operation not permitted\nwhen stream is capturing")
            return super().__torch_dispatch__(*args, **kwargs)

    def record(device, run):
        nonlocal asked
        asked += 1
        with Failing(device):
            run()

    configs = STACKS["a head that stops"]
    without = train_heads(TRAIN, VAL, configs)
    monkeypatch.setitem(RECORDERS, "cpu", record)
    with pytest.warns(RuntimeWarning) as warned:
        heads = train_heads(TRAIN, VAL, configs)
    assert list(map(all_of, heads)) == list(map(all_of, without))
    (warning,) = warned
    assert str(warning.message) == "the heads train without a CUDA graph, more slowly: operation not permitted"
    assert asked == 1


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
@pytest.mark.parametrize("stack", STACKS)
def test_on_cuda_a_graph_equals_the_steps_one_by_one(stack, monkeypatch):
    """Heads that are trained by a CUDA graph, without a warning, are those that are trained without, to 1e-5."""
    by_graph = train_heads(TRAIN, VAL, STACKS[stack], device="cuda")
    monkeypatch.delitem(RECORDERS, "cuda")
    for head, other in zip(by_graph, train_heads(TRAIN, VAL, STACKS[stack], device="cuda"), strict=True):
        assert (head.diverged, head.best_epoch, len(head.history)) == (
            other.diverged, other.best_epoch, len(other.history),
        )  # fmt: skip
        assert head.diverged or apart(head, other.weight, other.bias) < 1e-5


@needs_cuda
def test_on_cuda_a_failed_capture_does_no_harm():
    """A capture that is refused raises, computes nothing, and leaves the stream as it was, ready for the next one."""
    device = torch.device("cuda", torch.cuda.current_device())
    before = torch.cuda.current_stream(device)
    x = torch.zeros(3, device=device).add_(0)  # the kernel is loaded before a capture needs it
    with pytest.raises(RuntimeError):
        capture_graph(device, lambda: x.add_(1).sum().item())
    assert torch.cuda.current_stream(device) == before
    again = capture_graph(device, lambda: x.add_(1))
    assert x.tolist() == [0, 0, 0]
    again()
    assert x.tolist() == [1, 1, 1]
