"""Wrong values for every kind of input that a node declares, by a name that says what is wrong."""

from typing import Any

import torch

NAN, INF = float("nan"), float("inf")
Values = dict[str, Any]

ANYTHING: Values = {
    "None": None,
    "a number": 7,
    "a fraction": -1.5,
    "NaN": NAN,
    "a truth value": True,
    "a text": "text",
    "an empty text": "",
    "bytes": b"\0\xff",
    "an empty list": [],
    "a list of nothing": [None],
    "an empty dictionary": {},
    "a tuple": (),
    "a class": dict,
    "a function": print,
    "an object": object(),
    "a tensor of no dimension": torch.tensor(1.0),
    "a tensor of one dimension": torch.zeros(3),
    "a tensor of no number": torch.zeros(0),
    "a tensor on no device": torch.zeros(1, 16, 6, 6, device="meta"),
    "many keys": {f"key {number}\n": number for number in range(10_000)},
}


def _tensors(*shape: int) -> dict[str, torch.Tensor]:
    """Return tensors that have the shape of something right, and something wrong beside."""
    right = torch.rand(shape)
    one_nan, one_infinity = right.clone(), right.clone()
    one_nan.view(-1)[-1], one_infinity.view(-1)[0] = NAN, INF
    return {
        "one NaN": one_nan,
        "one infinity": one_infinity,
        "all -infinity": torch.full(shape, -INF),
        "whole numbers": right.long(),
        "bytes of a picture": (right * 255).to(torch.uint8),
        "truth values": right > 0.5,
        "complex numbers": torch.complex(right, right),
        "on no device": right.to("meta"),
        "sparse": right.to_sparse(),
        "a dimension too many": right[None],
        "a dimension too few": right[0],
        "none of them": right[:0],
        "huge": torch.full(shape, 3e38),
        "hugely negative": torch.full(shape, -3e38),
        "64 bits, more than 32 hold": torch.full(shape, 1e300, dtype=torch.float64),
    }


def conditionings(width: int) -> Values:
    """Return wrong values for a CONDITIONING of `width` numbers a token."""
    right = torch.rand(1, 5, width)
    bad: Values = {**ANYTHING, **{name: [[tensor, {}]] for name, tensor in _tensors(1, 5, width).items()}}
    bad |= {
        "a tensor alone": right,
        "an empty pair": [[]],
        "two empty pairs": [[], []],
        "a pair of one": [[right]],
        "no dictionary": [[right, None]],
        "a list as dictionary": [[right, []]],
        "three in a pair": [[right, {}, {}]],
        "no tensor": [[None, {}]],
        "a list as tensor": [[[0.0] * width, {}]],
        "wrong way round": [[{}, right]],
        "a dictionary of the two": [{"cond": right}],
        "no tokens": [[right[:, :0], {}]],
        "no width": [[right[:, :, :0], {}]],
        "narrow": [[right[..., :-1], {}]],
        "wide": [[torch.rand(1, 5, width + 1), {}]],
        "too many prompts": [[right, {}], [right, {}]],
        "too large a batch": [[torch.rand(3, 5, width), {}]],
        "of no stage": [[right, {"wuerstchen_stage": 7}]],
        "of an unknown stage": [[right, {"wuerstchen_stage": "A"}]],
        "an area": [[right, {"area": (1, 1, 0, 0)}]],
        "a mask": [[right, {"mask": torch.ones(1, 4, 4)}]],
        "chunks of no number": [[right, {"wuerstchen_chunk": "text"}]],
        "chunks of nothing": [[right, {"wuerstchen_chunk": 0}]],
        "chunks below nothing": [[right, {"wuerstchen_chunk": -1}]],
    }
    return bad


def latents(channels: int, height: int, width: int) -> Values:
    """Return wrong values for a LATENT of such a shape."""
    right = torch.rand(1, channels, height, width)
    bad: Values = {**ANYTHING, **{n: {"samples": each} for n, each in _tensors(1, channels, height, width).items()}}
    bad |= {f"samples are {name}": {"samples": value} for name, value in ANYTHING.items()}
    bad |= {
        f"{number} channels": {"samples": torch.rand(1, number, height, width)}
        for number in (0, 1, 3, 4, 5, 8, 15, 16, 17, 32)
        if number != channels
    }
    bad |= {
        "a tensor alone": right,
        "no height": {"samples": right[:, :, :0]},
        "no width": {"samples": right[..., :0]},
        "a position more": {"samples": torch.rand(1, channels, height + 1, width)},
        "a position less": {"samples": right[..., :-1]},
        "larger than a picture can be": {"samples": torch.rand(1, channels, 1, 4099)},
        "images in its place": {"samples": torch.rand(1, 8, 8, 3)},
    }
    for key in ("wuerstchen_size", "batch_index"):
        bad |= {f"{key} is {name}": {"samples": right, key: value} for name, value in ANYTHING.items()}
    sizes = {"of one": (128,), "of three": (1, 2, 3), "0": (0, 0), "below": (-5, 128), "above": (10**9, 128)}
    sizes |= {"of texts": ("a", "b"), "of fractions": (1.5, 2.5), "of NaNs": (NAN, NAN)}
    bad |= {f"a size {name}": {"samples": right, "wuerstchen_size": value} for name, value in sizes.items()}
    indices = {"of texts": ["a"], "of fractions": [0.5], "huge": [2**200], "below": [-(2**70)], "of nothing": [None]}
    bad |= {f"indices {name}": {"samples": right, "batch_index": value} for name, value in indices.items()}
    masks = {**ANYTHING, **{f"with {name}": each for name, each in _tensors(1, 1, 8, 8).items()}}
    masks |= {"without height": torch.ones(1, 1, 0, 4), "of a column": torch.ones(4099, 1)}
    masks |= {"of many": torch.ones(70, 1, 2, 2)}
    bad |= {f"a mask {name}": {"samples": right, "noise_mask": value} for name, value in masks.items()}
    return bad


def images() -> Values:
    """Return wrong values for an IMAGE."""
    bad: Values = {**ANYTHING, **_tensors(1, 16, 16, 3)}
    bad |= {f"{number} channels": torch.rand(1, 8, 8, number) for number in (0, 1, 2, 4, 5, 16)}
    bad |= {
        "a list of images": [torch.rand(8, 8, 3)],
        "a latent": {"samples": torch.rand(1, 16, 6, 6)},
        "channels first": torch.rand(1, 3, 8, 8),
        "no height": torch.rand(1, 0, 8, 3),
        "no width": torch.rand(1, 8, 0, 3),
        "one pixel": torch.rand(1, 1, 1, 3),
        "too wide": torch.rand(1, 1, 8193, 3),
        "too high": torch.rand(1, 8193, 1, 3),
        "far too wide": torch.zeros(1, 1, 10**6, 3),
        "a transparent NaN": torch.full((1, 8, 8, 4), NAN),
    }
    return bad


NUMBERS: Values = {
    **{name: value for name, value in ANYTHING.items() if name not in ("a number", "a fraction")},
    "infinity": INF,
    "-infinity": -INF,
    "a number in a text": "7",
    "a number in a list": [7],
    "2**64": 2**64,
    "-2**64": -(2**64),
    "5000 digits": 10**5000,
    "a billion": 10**9,
    "complex": 1j,
    "a tensor of a number": torch.tensor(7),
    "a tensor of many": torch.zeros(1, 16, 6, 6),
}

TEXTS: Values = {
    **{name: value for name, value in ANYTHING.items() if not isinstance(value, str)},
    "half a character": "\ud83d",
    "half a character in a name": "heart\udcff.safetensors",
    "a list of texts": ["text"],
}

NAMES: Values = {
    **TEXTS,
    **{
        repr(name): name
        for name in (
            "",
            " ",
            ".",
            "..",
            "../x",
            "../../../etc/passwd",
            "sub/../../x",
            "..\\..\\x",
            "/etc/passwd",
            "/dev/zero",
            "C:\\x",
            "C:x",
            "\\\\server\\share",
            "//server/share",
            "~/x",
            "%APPDATA%",
            "$HOME",
            "a\0b",
            "a\nb",
            "nowhere.safetensors",
            "CON",
            "NUL.safetensors",
            "owner/name",
            "https://example.com/x.safetensors",
            "file:///etc/passwd",
        )
    },
    "5,000 characters": "x" * 5000,
    "a thousand folders": "a/" * 1000 + "b",
    "a million characters": "x" * 10**6,
}
