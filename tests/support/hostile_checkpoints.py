"""Checkpoints as strangers may write them: pickles with code in every container, and safetensors files that lie."""

import io
import json
import os
import pickle
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers

from support.attacks import within
from support.tiny import randomise
from wuerstchen_core.checkpoints.embeddings import load_embedding
from wuerstchen_core.checkpoints.loading import (
    load_image_encoder,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
)
from wuerstchen_core.checkpoints.lora import load_lora
from wuerstchen_core.errors import CheckpointError, InputError
from wuerstchen_core.networks.text_model import TextModel, TextModelConfig

LOADERS: dict[str, Callable[[Any], Any]] = {
    "C": load_stage_c,
    "B": load_stage_b,
    "A": load_stage_a,
    "text": load_text_encoder,
    "image": load_image_encoder,
    "lora": load_lora,
    "embedding": load_embedding,
}
"""Every function that reads a file of weights."""
SUFFIXES = (".safetensors", ".pt", ".bin", ".ckpt", ".pth", "")
MAGIC = 0x1950A86A20F9469CFC6C
"""Number that the older form of torch's files begins with."""


def refusal(load: Callable[[Any], Any], source: Any, *, may_load: bool = False) -> str:
    """Load something bad; return the one line that says why it cannot be loaded, or nothing where it may load."""
    with within():
        try:
            load(source)
        except (CheckpointError, InputError) as error:
            message = str(error)
            assert "\n" not in message, message
            assert 20 < len(message) < 3000, f"{len(message)} characters: {message[:300]}"
            return message
    assert may_load, f"{source!r:.200} was loaded"
    return ""


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def text(value: str) -> bytes:
    """Return the opcode of a text."""
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def payloads(canary: Path) -> dict[str, bytes]:
    """Return pickles by what they try. Those that run code make the file `canary`."""
    line = f"open({str(canary)!r}, 'w').close()"
    touch = f"touch '{canary}'"
    command = text(touch)
    state = {"vquantizer.embedding.weight": Call(os.system, touch)}
    nested: Any = Call(os.system, touch)
    for _ in range(20):
        nested = [nested]
    calls: dict[str, Any] = {
        "os.system": Call(os.system, touch),
        "subprocess": Call(subprocess.check_output, ["touch", str(canary)]),
        "Popen": Call(subprocess.Popen, ["touch", str(canary)]),
        "eval": Call(eval, line),
        "exec": Call(exec, line),
        "import": Call(__import__, "this"),
        "open": Call(open, str(canary), "w"),
        "Path.touch": Call(Path.touch, canary),
        "torch.load": Call(torch.load, str(canary)),
        "torch.hub": Call(torch.hub.load, "a/b", "c"),
        "getattr": Call(getattr, os, "system"),
        "in a state dict": state,
        "in a list": nested,
    }
    made = {name: pickle.dumps(value, 2) for name, value in calls.items() if name not in ("getattr",)}
    made |= {f"{name} 4": pickle.dumps(value, 4) for name, value in calls.items() if name in ("exec", "os.system")}
    made |= {
        "INST": b"\x80\x02(" + command + b"iposix\nsystem\n.",
        "OBJ": b"\x80\x02(cposix\nsystem\n" + command + b"o.",
        "NEWOBJ": b"\x80\x02cbuiltins\nexec\n" + text(line) + b"\x85\x81.",
        "STACK_GLOBAL": b"\x80\x04" + text("posix") + text("system") + b"\x93" + command + b"\x85R.",
        "getattr of builtins": b"\x80\x02cbuiltins\ngetattr\nc__builtin__\n__import__\n\x86R.",
        "dotted name": b"\x80\x04" + text("torch") + text("serialization.os.system") + b"\x93" + command + b"\x85R.",
        "numpy reconstruct": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R.",
        "BUILD of a state": b"\x80\x02ccollections\nOrderedDict\n)R}" + text("__class__") + b"cos\nsystem\nsb.",
        "BUILD without object": b"\x80\x02}b.",
        "EXT": b"\x80\x02\x82\x01.",
        "persistent id, a text": b"\x80\x02Psystem\n.",
        "persistent id, an object": b"\x80\x02(" + text("storage") + b"cos\nsystem\nX\x01\x00\x00\x000tQ.",
        "contains itself": b"\x80\x02]q\x00h\x00a.",
        "dictionary of itself": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
        "a dictionary for a key": b"\x80\x02}}" + text("a") + b"s.",
        "text of 1e9 bytes": b"\x80\x02X\x00\xca\x9a;abc.",
        "text of 2**63 bytes": b"\x80\x04\x8d" + (2**63).to_bytes(8, "little") + b"abc.",
        "bytes of 2**62 bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"abc.",
        "number of 2**31 bytes": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
        "frame of 2**60 bytes": b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"}.",
        "memo of 2**31": b"\x80\x02}r\xff\xff\xff\x7f.",
        "memo that is missing": b"\x80\x02h\x05.",
        "empty stack": b"\x80\x02.",
        "mark alone": b"\x80\x02(.",
        "pop of nothing": b"\x80\x0200.",
        "no stop": b"\x80\x02}",
        "a text with an odd escape": b"\x80\x02S'\\q'\n.",
        "protocol 200": b"\x80\xc8}.",
        "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
        "a laugh of tuples": b"\x80\x02}" + text("a") + b"\x85" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",
        "a laugh by DUP": b"\x80\x02}" + text("a") + b"\x85" + b"2\x86" * 60 + b"K\x01s.",
        "a laugh by MEMOIZE": b"\x80\x04}" + text("a") + b"\x85\x94" + b"h\x00h\x00\x86q\x00" * 60 + b"K\x01s.",
        "a laugh of lists": b"\x80\x02]" + b"q\x00]h\x00ah\x00a" * 40 + b".",
        "a number": b"\x80\x02K\x05.",
        "a text": b"\x80\x02" + text("weights") + b".",
        "None": b"\x80\x02N.",
        "numbers by name": pickle.dumps({"a": 1, "b": 2.0}, 2),
        "a text of a mebibyte as a name": pickle.dumps({"k" * 2**20: 1}, 2),
        "a tensor by number": pickle.dumps({1: 2}, 2),
        "names with lines": pickle.dumps({"a\nb": 1}, 2),
    }
    return made


def zip_of(entries: Mapping[Any, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of entries by their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def torch_zip(pickled: bytes, compression: int = zipfile.ZIP_STORED, more: Mapping[str, bytes] | None = None) -> bytes:
    """Return a pickle in a file such as torch.save writes, with storages by name."""
    entries = {"a/data.pkl": pickled, "a/byteorder": b"little", "a/version": b"3\n"}
    return zip_of({**entries, **{f"a/{name}": data for name, data in (more or {}).items()}}, compression)


def legacy(pickled: bytes, after: bytes = pickle.dumps([], 2)) -> bytes:
    """Return a pickle in a file of torch's older form."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    return b"".join(pickle.dumps(each, 2) for each in (MAGIC, 1001, system)) + pickled + after


def _tar(pickled: bytes, first: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in ((first, pickled), ("pickle", pickled), ("tensors", pickled), ("sys_info", pickled)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "bare": bytes,
    "zip": torch_zip,
    "compressed zip": lambda data: torch_zip(data, zipfile.ZIP_DEFLATED),
    "zip in a zip": lambda data: torch_zip(torch_zip(data)),
    "zip with constants": lambda data: torch_zip(data, more={"constants.pkl": data, "code/__torch__.py": b"import os"}),
    "older form": legacy,
    "older form, in the end": lambda data: legacy(pickle.dumps({}, 2), data),
    "in a state dict": lambda data: b"\x80\x02}" + text("a") + data[2:-1] + b"s.",
    "tar": lambda data: _tar(data, "storages"),
    "tar that looks like a pickle": lambda data: _tar(data, "\udc80\x02a"),
    "after a safetensors header": lambda data: safetensors({}) + data,
}
"""Ways to put a pickle into a file."""


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file.

    Args:
        header: The header, as an object or as its bytes.
        data: What follows.
        length: Length of the header that the file says; None for the right one.
    """
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return ((len(content) if length is None else length) % 2**64).to_bytes(8, "little") + content + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    """Return what a header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def tensor_pickle(
    numbers: bytes = b"K\x04", shape: bytes = b"K\x02K\x02\x86", stride: bytes = b"K\x02K\x01\x86"
) -> bytes:
    """Return a pickle of one tensor by name, with the opcodes of its numbers, its shape and its strides."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + numbers + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + stride
    return b"\x80\x02}" + text("clip_g") + rebuilt + b"\x89ccollections\nOrderedDict\n)RtRs."


def odd_tensors() -> dict[str, Any]:
    """Return values that torch.save takes for a tensor, and that no network can hold."""
    wide = torch.zeros(1).expand(100_000, 100_000)
    shared = torch.zeros(2**20)
    new = {"four bits": "float4_e2m1fn_x2", "exponents": "float8_e8m0fnu"}  # an old torch has not all of them
    bits = {name: getattr(torch, dtype) for name, dtype in new.items() if hasattr(torch, dtype)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            **{name: {"clip_g": torch.zeros(2, 4, dtype=torch.uint8).view(dtype)} for name, dtype in bits.items()},
            "expanded": {"clip_g": wide},
            "shared by many": {f"{index}.{name}": shared for index in range(500) for name in ("a", "clip_g")},
            "sparse": {"clip_g": torch.eye(4).to_sparse()},
            "sparse rows": {"clip_g": torch.eye(4).to_sparse_csr()},
            "without numbers": {"clip_g": torch.empty(4, 4, device="meta")},
            "quantized": {"clip_g": torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8)},
            "nested": {"clip_g": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])},
            "complex": {"clip_g": torch.ones(2, 3, dtype=torch.complex64).conj()},
            "a long name": {"k" * 10_000: torch.ones(2, 3)},
            "no name": {"": torch.ones(2, 3)},
            "a name with lines": {"a\nb": torch.ones(2, 3)},
            "half a character": {"\ud83d": torch.ones(2, 3)},
            "in a list": [torch.ones(2, 3)],
            "alone": torch.ones(2, 3),
            "deep": {"a": {"b": {"c": torch.ones(2, 3)}}},
            "a number beside": {"clip_g": torch.ones(2, 3), "step": 5},
            "a dictionary as state_dict": {"state_dict": {"state_dict": {}}},
            "none": {},
        }


RAW = [
    b"",
    b"{",
    b"[" * 10**5,
    b'{"a":' * 10**5,
    b"\xff\xfe",
    b'{"a":1,"a":2}',
    b'{"a":"\\ud83d"}',
    bytes(10**5),
    b"{}" * 2,
]
RAW += [b'{"a":[' + b"1," * 3_000_001 + b"1]}", b" " * (64 * 2**20 + 1), b'{"a":' + b"9" * 10**5 + b"}"]
"""Files of JSON that are none, or far too large."""


def save_text(folder: Path) -> dict[str, Any]:
    """Save a tiny text encoder with its tokenizer, and return what its files of JSON hold, by their names."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "he", "<|startoftext|>", "<|endoftext|>"]
    config = TextModelConfig(len(tokens), 32, 64, num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu")
    state = {f"text_model.{key}": value for key, value in randomise(TextModel(config), 0).state_dict().items()}
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors")
    special = dict(
        zip(("bos_token", "eos_token", "unk_token", "pad_token"), [tokens[-2], *[tokens[-1]] * 3], strict=True)
    )
    files = {
        "config.json": asdict(config),
        "vocab.json": {token: index for index, token in enumerate(tokens)},
        "tokenizer_config.json": {**special, "model_max_length": 77},
    }
    (folder / "merges.txt").write_text("#version: 0.2\nh e\n")
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return files
