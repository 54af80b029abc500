"""What a checkpoint's file holds; or what it is instead, and what to do with it. Nothing in a file is executed."""

import io
import os
import re
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

from featcache.errors import MachineError
from featcache.files import nearest_path, open_file

_MAX_PICKLE = 1 << 26  # bytes of a pickle that are looked through
_NAMED = 4  # classes in a message
_TEXT = {*range(0x20, 0x7F), 0x09, 0x0A, 0x0D}


def read_checkpoint(file: Path) -> Any:
    """Return what a file holds, as it was saved: nothing in it is executed.

    Args:
        file: The checkpoint: of `torch.save` or safetensors, whatever its name ends in.

    Raises:
        MachineError: it is missing or no checkpoint; the message says what it is and what to do.
    """
    head = _read_head(file)
    if (reason := _foreign(file, head)) is not None:
        raise MachineError(f"weights {file}: {reason}")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return _read_safetensors(file)
    return _read_torch(file, head)


def saving_lines(file: Path, code: str, *, unsafe: bool = False, load: str = "") -> str:
    """Return three lines of Python that save one set of weights as a file of its own.

    Args:
        file: The checkpoint.
        code: The expression that picks the set out of `found`, what was loaded.
        unsafe: Let torch.load run the code that stands in the file.
        load: The expression that loads it, with {file}; "" is torch.load.
    """
    flag = f"weights_only={not unsafe}"
    load = (load or "torch.load({file!r}, map_location='cpu', {flag})").format(file=str(file), flag=flag)
    target = f"{file.stem}-weights.pth"
    return f"\n  import torch\n  found = {load}\n  torch.save({code}, {target!r})"


def _read_head(file: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        MachineError: it is missing, no regular file, or empty.
    """
    try:
        with os.fdopen(open_file(file, follow_links=True), "rb") as opened:
            head = opened.read(1024)
    except FileNotFoundError:
        error = MachineError(f"weights {file}: no such file; name a .pth or .safetensors file with --weights FILE")
        close = nearest_path(str(file), suffixes=(".pth", ".safetensors"))
        raise (error if close is None else error.correct("--weights", close)) from None
    except OSError as error:
        raise MachineError(
            f"weights {file}: cannot be read: {error.strerror}; name a .pth or .safetensors file with --weights FILE"
        ) from None
    if not head:
        raise MachineError(f"weights {file}: this file is empty (0 bytes); fetch or save it again")
    return head


def _foreign(file: Path, head: bytes) -> str | None:
    """Return what a file is that no trunk can be read from, by how it begins; None where it may be a checkpoint."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        return "this is a git-lfs pointer, not the file itself; `git lfs pull` fetches it"
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
    """Return what a zip archive is, where it is none of torch.save's; None where it is one, or cut short."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if names and all(name.endswith(".npy") for name in names):
        is_jax = any("encoderblock_0" in name for name in names)
        whose = ", as the original ViT's weights for JAX come" if is_jax else ""
        return f"this is an archive of NumPy arrays (.npz){whose}; featcache reads PyTorch's (.pth, .safetensors)"
    members = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in members):
        lines = saving_lines(file, "found.state_dict()", load="torch.jit.load({file!r}, map_location='cpu')")
        return f"this is a TorchScript program; where you trust it, save its tensors, and name that file:{lines}"
    if "data.pkl" not in members:
        return "this is a zip archive that torch.save did not write; unpack it, and name the checkpoint in it"
    return None


def _incomplete(file: Path) -> str:
    return (
        f"this is not a complete checkpoint ({file.stat().st_size:,} bytes): it is cut short or damaged; "
        f"fetch or save it again"
    )


def _read_safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except OSError as error:
        raise MachineError(f"weights {file}: cannot be read: {error.strerror}") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError):
        raise MachineError(f"weights {file}: {_incomplete(file)}") from None


def _read_torch(file: Path, head: bytes) -> Any:
    import torch

    try:
        # What it is shows in its bytes: torch.load goes by the end of a name, and warns of what is refused below.
        with file.open("rb") as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(opened, map_location="cpu", weights_only=True)
    except OSError as error:
        raise MachineError(f"weights {file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged archive makes torch.load raise anything
        failure = str(error)
    if head[257:262] == b"ustar":
        reason = _incomplete(file) if _is_cut_tar(file) else (
            "this is a tar archive: a checkpoint of a PyTorch before 0.4, or one that is packed; unpack it, or load it "
            "with torch.load(…, weights_only=False) where you trust it, and save its state dict again"
        )  # fmt: skip
        raise MachineError(f"weights {file}: {reason}")
    if (strings := _pickled_strings(file)) is None and "global" not in failure.lower():
        raise MachineError(f"weights {file}: {_incomplete(file)}")
    raise MachineError(f"weights {file}: {_describe_objects(file, failure, strings or set())}")


def _is_cut_tar(file: Path) -> bool:
    try:
        with tarfile.open(file) as archive:
            return any(member.offset_data + member.size > file.stat().st_size for member in archive)
    except (tarfile.TarError, OSError, EOFError):
        return True


def _describe_objects(file: Path, failure: str, strings: set[str]) -> str:
    """Return what to do with a checkpoint that torch.load refuses because objects of Python stand in it."""
    names = re.findall(r"(?:GLOBAL|global:?|class) `?'?([A-Za-z_][\w.]*\.[\w.]+)", failure)
    classes = sorted({name for name in names if not name.startswith("torch.serialization")})
    shown = ", ".join(classes[:_NAMED]) or "objects of Python"
    key = next((key for key in ("state_dict", "model", "model_state_dict", "net", "network") if key in strings), None)
    is_model = key is None and {"_parameters", "_modules"} <= strings
    code = "found.state_dict()" if is_model else "found" if key is None else f"found[{key!r}]"
    contents = "a whole model" if is_model else "more than tensors"
    return (
        f"it holds {contents} ({shown}), which only running code of the file could read; where you trust it, save its "
        f"tensors alone, and name that file:{saving_lines(file, code, unsafe=True)}"
    )


def _pickled_strings(file: Path) -> set[str] | None:
    """Return the strings in a checkpoint's pickle, which is only looked at; None where it is no whole one."""
    import pickletools

    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                with archive.open(name) as member:
                    data = member.read(_MAX_PICKLE)
        else:
            with file.open("rb") as opened:
                data = opened.read(_MAX_PICKLE)
            if data.startswith(b"\x80\x02\x8a\nl\xfc"):  # torch.save until 1.5: three pickles before the contents
                data = data[_end_of_pickles(data, 3) :]
        return {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    except (zipfile.BadZipFile, OSError, StopIteration, ValueError, IndexError, NotImplementedError, EOFError):
        return None


def _end_of_pickles(data: bytes, count: int) -> int:
    """Return where the first `count` pickles end."""
    import pickletools

    stream = io.BytesIO(data)
    for _ in range(count):
        for _op in pickletools.genops(stream):
            pass
    return stream.tell()
