"""A checkpoint's file as training left it -> the names and tensors of one network.

Trainers wrap what they save: in other keys (`state_dict`, `model`, an averaged copy beside it), and its names in
prefixes (`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile, `model.` or `backbone.` of a Lightning
module). All of that is taken off here. Where a file holds several sets of weights that differ, none is chosen.
"""

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import MachineError
from featcache.files import open_file

_MOST_PICKLE = 1 << 26  # bytes of a pickle that are looked through
_ANCHORS = ("class_token", "conv_proj.weight", "encoder.pos_embedding", "encoder.ln.weight")
# Parts of a name that wrappers add wherever the module that they wrap stands.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_DEEP = 5  # keys above the names
_NAMED = 4  # classes, or sets of weights, in a message
_TEXT = {*range(0x20, 0x7F), 0x09, 0x0A, 0x0D}


@dataclass(frozen=True, slots=True)
class Weights:
    """One set of weights in a checkpoint: where it stands in the file, and its tensors by the network's own names."""

    keys: tuple[str, ...]  # that lead to it
    prefix: str  # of its names, there
    tensors: Mapping[str, Any]
    wrapper: str = ""  # a part that all these names have, and those of another set in the same place have not

    def __str__(self) -> str:
        """Where it stands, as a person names it."""
        keys = "".join(f"[{key!r}]" for key in self.keys)
        if self.wrapper:
            return f"the names with {self.wrapper!r}" + (f" in {keys}" if keys else "")
        if not self.prefix:
            return keys or "the names without a prefix"
        return f"the names that begin with {self.prefix!r}" + (f" in {keys}" if keys else "")

    def code(self) -> str:
        """Python that picks it out of `found`, what torch.load gave."""
        place = "found" + "".join(f"[{key!r}]" for key in self.keys)
        if self.wrapper:
            part = f"{self.wrapper}."
            return f"{{name.replace({part!r}, ''): value for name, value in {place}.items() if {part!r} in name}}"
        if not self.prefix:
            return place
        cut = f"name.removeprefix({self.prefix!r}): value for name, value in {place}.items()"
        return f"{{{cut} if name.startswith({self.prefix!r})}}"


def read(file: Path) -> Any:
    """What a file holds, as it was saved: nothing in it is executed.

    Raises:
        MachineError: it is missing or no checkpoint; the message says what it is and what to do.
    """
    head = _head(file)
    if (reason := _foreign(file, head)) is not None:
        raise MachineError(f"weights {file}: {reason}")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return _safetensors(file)
    return _torch(file, head)


def weights_in(document: Any) -> list[Weights]:
    """Every set of weights that a checkpoint holds, with all that wrappers put around its names taken off.

    A set is the names below one prefix, where there is a ViT's class token, patch projection, positions or last
    LayerNorm below it; where there is none anywhere, all names of a dictionary are one set.
    """
    return [found for keys, state in _state_dicts(document, ()) for found in _sets(keys, state)]


def choose(
    file: Path, sets: list[Weights], fits: Callable[[Weights], bool], same: Callable[[Weights, Weights], bool]
) -> Weights | None:
    """The one set that fits the network; None where none does. Sets that hold the same tensors are one.

    Raises:
        MachineError: several fit, and they differ.
    """
    fitting = [found for found in sets if fits(found)]
    different = [found for number, found in enumerate(fitting) if not any(same(found, b) for b in fitting[:number])]
    if len(different) > 1:
        listed = "; ".join(str(found) for found in different[:_NAMED])
        raise MachineError(
            f"weights {file}: it holds {len(different)} sets of weights of this network, and they differ: {listed}. "
            f"Save the one that is meant in a file of its own, and name that:{_lines(file, different[-1].code())}"
        )
    return different[0] if different else None


def _head(file: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        MachineError: it is missing, no regular file, or empty.
    """
    try:
        with os.fdopen(open_file(file, follow_links=True), "rb") as opened:
            head = opened.read(1024)
    except FileNotFoundError:
        said = "no such file; name a .pth or .safetensors file with --weights FILE"
        raise MachineError(f"weights {file}: {said}") from None
    except OSError as error:
        raise MachineError(
            f"weights {file}: cannot be read: {error.strerror}; name a .pth or .safetensors file with --weights FILE"
        ) from None
    if not head:
        raise MachineError(f"weights {file}: this file is empty (0 bytes); fetch or save it again")
    return head


def _foreign(file: Path, head: bytes) -> str | None:
    """What a file is that no trunk can be read from, by how it begins; None where it may be a checkpoint."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        return "this is a pointer of git-lfs, not the file itself; `git lfs pull` fetches that"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "this is a web page that was saved under this name, not a checkpoint; fetch the file itself"
    if head.startswith((b"\x89HDF", b"CDF")):
        return "this is an HDF5 file, as Keras writes weights; featcache reads those of PyTorch (.pth, .safetensors)"
    if head.startswith(b"\x93NUMPY"):
        return "this is a NumPy array; featcache reads the weights of PyTorch (.pth, .safetensors)"
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")):
        return "this is a compressed archive; unpack it, and name the checkpoint in it"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":") and (b"torch" in head or b"onnx" in head.lower()):
        return "this is an ONNX model; featcache reads the state dict that it was exported from (.pth, .safetensors)"
    if all(byte in _TEXT for byte in head):
        line = head.decode("ascii").strip().split("\n", 1)[0][:60]
        return f"this is text that begins with {line!r}, not a checkpoint; fetch the file itself"
    return _foreign_zip(file) if head.startswith(b"PK") else None


def _foreign_zip(file: Path) -> str | None:
    """What a zip archive is, where it is none of torch.save's; None where it is one, or cut short."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if names and all(name.endswith(".npy") for name in names):
        jax = any("encoderblock_0" in name for name in names)
        whose = ", as the original ViT's weights for JAX come" if jax else ""
        return f"this is an archive of NumPy arrays (.npz){whose}; featcache reads PyTorch's (.pth, .safetensors)"
    inside = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inside):
        lines = _lines(file, "found.state_dict()", load="torch.jit.load({file!r}, map_location='cpu')")
        return f"this is a TorchScript program; where you trust it, save its tensors, and name that file:{lines}"
    if "data.pkl" not in inside:
        return "this is a zip archive that torch.save did not write; unpack it, and name the checkpoint in it"
    return None


def _incomplete(file: Path) -> str:
    return (
        f"this is no complete checkpoint ({file.stat().st_size:,} bytes): it is cut short or damaged; "
        f"fetch or save it again"
    )


def _safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except OSError as error:
        raise MachineError(f"weights {file}: cannot be read: {error.strerror}") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError):
        raise MachineError(f"weights {file}: {_incomplete(file)}") from None


def _torch(file: Path, head: bytes) -> Any:
    import torch

    try:
        with file.open("rb") as opened:  # what it is shows in its bytes: torch.load goes by the end of a name
            return torch.load(opened, map_location="cpu", weights_only=True)
    except OSError as error:
        raise MachineError(f"weights {file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged archive makes torch.load raise anything
        failed = str(error)
    if head[257:262] == b"ustar":
        said = (
            "this is a tar archive: a checkpoint of a PyTorch before 0.4, or one that is packed; unpack it, or load it "
            "with torch.load(…, weights_only=False) where you trust it, and save its state dict again"
        )
        raise MachineError(f"weights {file}: {_incomplete(file) if _is_cut_tar(file) else said}")
    if (strings := _pickled_strings(file)) is None and "global" not in failed.lower():
        raise MachineError(f"weights {file}: {_incomplete(file)}")
    raise MachineError(f"weights {file}: {_with_code(file, failed, strings or set())}")


def _is_cut_tar(file: Path) -> bool:
    try:
        with tarfile.open(file) as archive:
            return any(one.offset_data + one.size > file.stat().st_size for one in archive)
    except (tarfile.TarError, OSError, EOFError):
        return True


def _with_code(file: Path, failed: str, strings: set[str]) -> str:
    """What to do with a checkpoint that torch.load refuses because objects of Python stand in it."""
    import re

    found = re.findall(r"(?:GLOBAL|global:?|class) `?'?([A-Za-z_][\w.]*\.[\w.]+)", failed)
    classes = sorted({name for name in found if not name.startswith("torch.serialization")})
    named = ", ".join(classes[:_NAMED]) or "objects of Python"
    key = next((key for key in ("state_dict", "model", "model_state_dict", "net", "network") if key in strings), None)
    whole = key is None and {"_parameters", "_modules"} <= strings
    code = "found.state_dict()" if whole else "found" if key is None else f"found[{key!r}]"
    what = "a whole model" if whole else "more than tensors"
    return (
        f"it holds {what} ({named}), which only running code of the file could read; where you trust it, save its "
        f"tensors alone, and name that file:{_lines(file, code, unsafe=True)}"
    )


def _pickled_strings(file: Path) -> set[str] | None:
    """The strings in a checkpoint's pickle, which is only looked at; None where it is no whole one."""
    import pickletools

    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                with archive.open(name) as member:
                    data = member.read(_MOST_PICKLE)
        else:
            with file.open("rb") as opened:
                data = opened.read(_MOST_PICKLE)
            if data.startswith(b"\x80\x02\x8a\nl\xfc"):  # torch.save until 1.5: three pickles before the contents
                data = data[_after_pickles(data, 3) :]
        return {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    except (zipfile.BadZipFile, OSError, StopIteration, ValueError, IndexError, NotImplementedError, EOFError):
        return None


def _after_pickles(data: bytes, count: int) -> int:
    import io
    import pickletools

    stream = io.BytesIO(data)
    for _ in range(count):
        for _op in pickletools.genops(stream):
            pass
    return stream.tell()


def _lines(file: Path, code: str, *, unsafe: bool = False, load: str = "") -> str:
    """Three lines of Python that save one set of weights as a file of its own."""
    flag = f"weights_only={not unsafe}"
    load = (load or "torch.load({file!r}, map_location='cpu', {flag})").format(file=str(file), flag=flag)
    to = f"{file.stem}-weights.pth"
    return f"\n  import torch\n  found = {load}\n  torch.save({code}, {to!r})"


def _state_dicts(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dictionary of names to tensors, with the keys that lead to it; those of optimizers are none."""
    import torch

    if not isinstance(value, Mapping) or len(keys) > _DEEP or "param_groups" in value:
        return
    names = {name: found for name, found in value.items() if isinstance(name, str)}
    state = {name: found for name, found in names.items() if not isinstance(found, Mapping | list | tuple)}
    if any(torch.is_tensor(found) for found in state.values()):
        yield keys, state
    for name, found in names.items():
        yield from _state_dicts(found, (*keys, name))


def _sets(keys: tuple[str, ...], state: Mapping[str, Any]) -> Iterator[Weights]:
    plain: dict[str, list[str]] = {}
    for name in state:
        plain.setdefault(".".join(part for part in name.split(".") if part not in _WRAPPERS), []).append(name)
    if all(len(of) == 1 for of in plain.values()):
        yield from _by_prefix(keys, {name: state[of[0]] for name, of in plain.items()})
        return
    yield from _by_prefix(keys, {name: state[name] for name in plain if name in state})
    wrapped = {name: of[-1] for name, of in plain.items() if of[-1] != name}  # the same names with a wrapper's part
    wrapper = next(part for part in next(iter(wrapped.values())).split(".") if part in _WRAPPERS)
    yield from _by_prefix(keys, {name: state[of] for name, of in wrapped.items()}, wrapper)


def _by_prefix(keys: tuple[str, ...], state: Mapping[str, Any], wrapper: str = "") -> Iterator[Weights]:
    prefixes = dict.fromkeys(
        name.removesuffix(anchor) for name in state for anchor in _ANCHORS if f".{name}".endswith(f".{anchor}")
    )
    for prefix in prefixes or {"": None}:
        tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        inner = [other.removeprefix(prefix) for other in prefixes if other != prefix and other.startswith(prefix)]
        own = {name: value for name, value in tensors.items() if not any(name.startswith(other) for other in inner)}
        yield Weights(keys, prefix, own, wrapper)
