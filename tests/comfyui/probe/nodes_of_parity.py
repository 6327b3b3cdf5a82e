"""Small nodes that both a real server and this project's executor run, for comparing the two. Pure Python."""

from typing import Any


class _AnyType(str):
    """The type that packs declare for any: it differs from none."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


class _Probe:
    FUNCTION = "work"
    CATEGORY = "probe"
    RETURN_TYPES: tuple[str, ...] = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}


_INT = ("INT", {"forceInput": True})


class ProbeNumber(_Probe):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0, "min": -10, "max": 10})}}

    def work(self, value: int) -> tuple[Any]:
        return (value,)


class ProbeAdd(_Probe):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"a": _INT, "b": _INT}, "optional": {"c": _INT}}

    def work(self, a: int, b: int, c: int = 0) -> tuple[int]:
        return (a + b + c,)


class ProbeShow(_Probe):
    RETURN_TYPES, OUTPUT_NODE = (), True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (_AnyType("*"), {})}}

    def work(self, value: Any) -> dict[str, Any]:
        return {"ui": {"shown": [value]}}


class ProbeShowAll(ProbeShow):
    INPUT_IS_LIST = True


class ProbeFields(_Probe):
    """A field of every kind."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "count": ("INT", {"default": 1, "min": 0}),
                "share": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "text": ("STRING", {"default": "", "multiline": True}),
                "on": ("BOOLEAN", {"default": True}),
                "mode": (["fast", "slow"], {"default": "fast"}),
            }
        }

    def work(self, **values: Any) -> tuple[str]:
        return (repr(sorted(values.items())),)


class ProbePair(_Probe):
    RETURN_TYPES = ("STRING", "INT")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"text": ("STRING", {"default": "x"})}}

    def work(self, text: str) -> tuple[str, int]:
        return (text, len(text))


class ProbeChoose(_Probe):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        lazy = ("INT", {"forceInput": True, "lazy": True})
        return {"required": {"take_second": ("BOOLEAN", {"default": False}), "first": lazy, "second": lazy}}

    def check_lazy_status(self, take_second: bool, first: Any = None, second: Any = None) -> list[str]:
        name, value = ("second", second) if take_second else ("first", first)
        return [name] if value is None else []

    def work(self, take_second: bool, first: Any = None, second: Any = None) -> tuple[int]:
        return (second if take_second else first,)


class ProbeMany(ProbeNumber):
    OUTPUT_IS_LIST = (True,)

    def work(self, value: int) -> tuple[Any]:
        return (list(range(value)),)


class ProbeGather(_Probe):
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"values": _INT, "scale": ("INT", {"default": 1})}}

    def work(self, values: list[int], scale: list[int]) -> tuple[int]:
        return (sum(values) * scale[0],)


class ProbeStamped(_Probe):
    """IS_CHANGED says what `stamp` says: the same each time, NaN for "nan", a failure for "fail"."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"stamp": ("STRING", {"default": "a"})}, "optional": {"after": _INT}}

    @classmethod
    def IS_CHANGED(cls, stamp: str, after: Any = None) -> Any:
        if stamp == "fail":
            raise OSError("no stamp")
        return float("nan") if stamp == "nan" else stamp

    def work(self, stamp: str, after: int = 0) -> tuple[int]:
        return (len(stamp) + after,)


class ProbeChecked(_Probe):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"even": ("INT", {"default": 0, "max": 4}), "other": ("INT", {"default": 0, "max": 4})}}

    @classmethod
    def VALIDATE_INPUTS(cls, even: int) -> Any:
        return True if even is None or even % 2 == 0 else f"{even} is odd"

    def work(self, even: int, other: int) -> tuple[int]:
        return (even + other,)


class ProbeAnyType(_Probe):
    """Checks the types of its links itself."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("FLOAT", {"forceInput": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, str]) -> Any:
        return True if input_types["value"] in ("INT", "FLOAT") else f"a {input_types['value']} is no number"

    def work(self, value: float) -> tuple[int]:
        return (int(value) * 2,)


class ProbeHidden(_Probe):
    RETURN_TYPES, OUTPUT_NODE = (), True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "unique_id": "UNIQUE_ID"}
        return {"required": {}, "hidden": hidden}

    def work(self, prompt: Any, extra_pnginfo: Any, unique_id: str) -> dict[str, Any]:
        return {"ui": {"asked": [prompt[unique_id]["class_type"], unique_id, extra_pnginfo]}}


class ProbeBoth(_Probe):
    """An output node whose value others take."""

    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": _INT}}

    def work(self, value: int) -> dict[str, Any]:
        return {"ui": {"passing": [value]}, "result": (value + 1,)}


class ProbeFails(_Probe):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": _INT}}

    def work(self, value: int) -> tuple[int]:
        raise ValueError("the kettle is empty")


NODE_CLASS_MAPPINGS: dict[str, type] = {
    each.__name__: each
    for each in (
        ProbeNumber,
        ProbeAdd,
        ProbeShow,
        ProbeShowAll,
        ProbeFields,
        ProbePair,
        ProbeChoose,
        ProbeMany,
        ProbeGather,
        ProbeStamped,
        ProbeChecked,
        ProbeAnyType,
        ProbeHidden,
        ProbeBoth,
        ProbeFails,
    )
}
