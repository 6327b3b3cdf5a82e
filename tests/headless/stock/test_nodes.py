import json
import tracemalloc

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from support.workflows import Toy, node, toys
from wuerstchen_core.errors import InputError
from wuerstchen_nodes.headless.errors import InvalidWorkflowError, RunError
from wuerstchen_nodes.headless.execution.executor import Executor
from wuerstchen_nodes.headless.stock import nodes as stock
from wuerstchen_nodes.headless.stock.images import LoadImage, SaveImage
from wuerstchen_nodes.headless.stock.latents import LoadLatent, SaveLatent
from wuerstchen_nodes.headless.workflow.catalog import Catalog
from wuerstchen_nodes.headless.workflow.validate import validate
from wuerstchen_nodes.host import using
from wuerstchen_nodes.sockets import asked_size, crop_to_asked


class Gradient(Toy):
    """Two images of 4 x 2 pixels with values beyond 0..1 at the ends."""

    RETURN_TYPES = ("IMAGE",)

    def work(self):
        return (torch.linspace(-0.1, 1.1, 2 * 2 * 4 * 3).reshape(2, 2, 4, 3),)


class Latent(Toy):
    RETURN_TYPES = ("LATENT",)

    def work(self):
        return ({"samples": torch.arange(16.0).reshape(1, 16, 1, 1)},)


CATALOG = Catalog({**toys(Gradient=Gradient, Latent=Latent).classes, **stock.CLASSES})


def run(prompt, extra=None):
    return Executor(CATALOG).run(validate(prompt, CATALOG), extra_pnginfo=extra)


def test_every_stock_node_says_its_name():
    assert set(stock.CLASSES) == set(stock.DISPLAY_NAMES)


def test_save_image_writes_pixels_prompt_and_workflow(host):
    prompt = {"1": node("Gradient"), "2": node("SaveImage", images=["1", 0], filename_prefix="a/%width%x%height%")}
    shown = run(prompt, {"workflow": {"nodes": []}})
    assert shown["2"]["images"] == [
        {"filename": f"4x2_0000{i}_.png", "subfolder": "a", "type": "output"} for i in (1, 2)
    ]
    expected = (torch.linspace(-0.1, 1.1, 48).reshape(2, 2, 4, 3) * 255).clamp(0, 255).byte().numpy()
    for index in range(2):
        with Image.open(host.output_folder() / "a" / f"4x2_0000{index + 1}_.png") as image:
            assert numpy.array_equal(numpy.array(image), expected[index])
            assert json.loads(image.info["prompt"]) == prompt
            assert json.loads(image.info["workflow"]) == {"nodes": []}


def test_preview_image_stays_out_of_the_output_folder(host, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown = run({"1": node("Gradient"), "2": node("PreviewImage", images=["1", 0])})
    assert {each["type"] for each in shown["2"]["images"]} == {"temp"}
    assert len(list(host.preview_folder.glob("*.png"))) == 2
    assert not host.output_folder().exists()


def test_load_image_gives_pixels_and_transparency(host, calls):
    class Look(Toy):
        OUTPUT_NODE = True

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"image": ("IMAGE", {}), "mask": ("MASK", {})}}

        def work(self, image, mask):
            return {"ui": {"seen": [image, mask]}, "result": (0,)}

    folder = host.input_folders[0]
    folder.mkdir()
    Image.fromarray(numpy.array([[[255, 0, 51, 255], [0, 0, 0, 0]]], dtype=numpy.uint8)).save(folder / "clear.png")
    Image.fromarray(numpy.full((2, 2), 257 * 100, dtype=numpy.uint16)).save(folder / "deep.png")
    catalog = Catalog({**CATALOG.classes, "Look": Look})

    def load(name):
        prompt = {"1": node("LoadImage", image=name), "2": node("Look", image=["1", 0], mask=["1", 1])}
        return Executor(catalog).run(validate(prompt, catalog))["2"]["seen"]

    image, mask = load("clear.png")
    assert torch.allclose(image, torch.tensor([[[[1, 0, 0.2], [0, 0, 0]]]]))
    assert torch.equal(mask, torch.tensor([[[0.0, 1.0]]]))
    image, mask = load(str(folder / "deep.png"))
    assert image.shape == (1, 2, 2, 3)
    assert torch.allclose(image, torch.full((1, 2, 2, 3), 100 / 255), atol=1 / 255)
    assert torch.equal(mask, torch.zeros(1, 2, 2))


def test_load_image_says_where_it_looked_and_what_is_damaged(host):
    def prompt(name):
        return {"1": node("LoadImage", image=name), "2": node("PreviewImage", images=["1", 0])}

    with pytest.raises(InvalidWorkflowError, match=r"There is no file 'absent.png'; looked in .*input"):
        run(prompt("absent.png"))
    host.input_folders[0].mkdir()
    (host.input_folders[0] / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RunError, match=r"bad\.png cannot be read as an image"):
        run(prompt("bad.png"))


def test_a_changed_file_is_loaded_again(host):
    host.input_folders[0].mkdir()
    path = host.input_folders[0] / "x.png"
    executor = Executor(CATALOG)
    prompt = {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    for shade in (0, 0, 200):
        Image.new("RGB", (1, 1), (shade,) * 3).save(path)
        executor.run(validate(prompt, CATALOG))
    saved = sorted(host.output_folder().iterdir())
    assert [Image.open(each).getpixel((0, 0)) for each in saved] == [(0, 0, 0), (200, 200, 200)]


def test_a_large_picture_is_loaded_and_saved_without_copies(host):
    host.input_folders[0].mkdir()
    Image.new("RGBA", (2000, 3000), (51, 102, 204, 51)).save(host.input_folders[0] / "in.png")
    with using(host):
        tracemalloc.start()
        (images, masks), most = LoadImage().load("in.png"), tracemalloc.get_traced_memory()[1]
        assert most < 1.3 * (images.nbytes + masks.nbytes)
        tracemalloc.reset_peak()
        SaveImage().save(images, "x")
        before, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most - before < images.nbytes
    assert torch.allclose(images[0, [0, -1], [0, -1]], torch.tensor([0.2, 0.4, 0.8]).expand(2, 3))
    assert torch.allclose(masks, torch.tensor(0.8))


def test_latents_are_saved_and_loaded(host):
    shown = run({"1": node("Latent"), "2": node("SaveLatent", samples=["1", 0], filename_prefix="l/x")})
    assert shown["2"]["latents"] == [{"filename": "x_00001_.latent", "subfolder": "l", "type": "output"}]
    loaded = LoadLatent().load(str(host.output_folder() / "l" / "x_00001_.latent"))
    assert torch.equal(loaded[0]["samples"], torch.arange(16.0).reshape(1, 16, 1, 1))


def test_a_latent_file_keeps_the_size_that_was_asked_for(host):
    samples = {"samples": torch.zeros(1, 16, 6, 9), **asked_size(320, 200)}
    with using(host):
        SaveLatent().save(samples, "asked")
        (loaded,) = LoadLatent().load(str(host.output_folder() / "asked_00001_.latent"))
        assert loaded["wuerstchen_size"] == (320, 200)
        assert crop_to_asked(torch.zeros(1, 256, 384, 3), loaded).shape == (1, 200, 320, 3)
        for text in ("[1]", "{", '"x"', "[0, 5]", "null"):
            path = host.output_folder() / "odd.latent"
            save_file({"latent_tensor": samples["samples"]}, path, metadata={"wuerstchen_size": text})
            assert set(LoadLatent().load(str(path))[0]) == {"samples"}, text


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_a_latent_of_other_numbers_is_refused(host, dtype):
    path = host.output_folder() / "odd.latent"
    path.parent.mkdir(exist_ok=True)
    save_file({"latent_tensor": torch.ones(1, 16, 6, 6).to(dtype)}, path)
    with using(host), pytest.raises(InputError, match=r"odd\.latent holds values of .*; expected F64, F32, F16, BF16"):
        LoadLatent().load(str(path))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_latent_of_any_floating_numbers_is_read(host, dtype):
    path = host.output_folder() / "old.latent"
    path.parent.mkdir(exist_ok=True)
    save_file({"latent_tensor": torch.ones(1, 16, 6, 6).to(dtype)}, path)
    with using(host):
        (loaded,) = LoadLatent().load(str(path))
    assert torch.equal(loaded["samples"], torch.ones(1, 16, 6, 6) / 0.18215)


def test_a_file_that_is_no_latent_is_named(host):
    host.input_folders[0].mkdir()
    (host.input_folders[0] / "x.latent").write_bytes(b"no")
    prompt = {
        "1": node("LoadLatent", latent="x.latent"),
        "2": node("SaveLatent", samples=["1", 0], filename_prefix="x"),
    }
    with pytest.raises(RunError, match=r"is not a \.latent file"):
        run(prompt)


def test_primitives_give_their_value():
    values = {
        "PrimitiveInt": 3,
        "PrimitiveFloat": 0.5,
        "PrimitiveString": "a",
        "PrimitiveStringMultiline": "a\nb",
        "PrimitiveBoolean": True,
    }
    prompt = {name: node(name, value=value) for name, value in values.items()}
    prompt["end"] = node(
        "Seeded",
        source=["PrimitiveInt", 0],
        seed=["PrimitiveInt", 0],
        mode="slow",
        strength=["PrimitiveFloat", 0],
        text=["PrimitiveStringMultiline", 0],
        on=["PrimitiveBoolean", 0],
    )
    assert run(prompt)["end"] == {"got": [[3, 3, "slow", 0.5, "a\nb", True]]}
