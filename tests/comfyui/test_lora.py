"""LoRAs in a real ComfyUI: its own loader on the MODEL of Stage C, and the pack's Load LoRA."""

import pytest
import torch
from safetensors.torch import save_file

from support import loras
from support.comfyui_graphs import SEED, TEXT, add, apart, ksampler, ran, saved, stage_c_by_our_own, stage_c_graph
from support.comfyui_server import Server
from support.loras import STYLES
from wuerstchen_core import apply_lora, linear_timesteps, load_lora, load_stage_c, load_text_encoder, sample_stage_c

NETWORK = load_stage_c("cocktail")
MADE = loras.pairs(NETWORK.state_dict(), loras.attention_layers(NETWORK.config.depth), seed=5)


def placed(server: Server, state: dict[str, torch.Tensor], name: str) -> str:
    folder = server.folder / "models/loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.clone().contiguous() for key, value in state.items()}, folder / f"{name}.safetensors")
    return f"{name}.safetensors"


def sampled_with(lora, strength):
    network = apply_lora(NETWORK, lora, strength)
    text = load_text_encoder("cocktail", for_stage="C")
    return sample_stage_c(
        network, text.encode([TEXT]), text.encode([""]), width=256, height=256, seeds=[SEED],
        timesteps=linear_timesteps(8), guidance_scale=4.0,
    )  # fmt: skip


def own_sampler(prompt, stage_c, positive, negative):
    return add(
        prompt, "WuerstchenStageCSampler", stage_c=[stage_c, 0], positive=[positive, 0], negative=[negative, 0],
        seed=SEED, steps=8, schedule="linear", cfg=4.0, width=256, height=256, batch_size=1,
    )  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_comfyuis_own_loader_reads_every_style(server: Server, style):
    name = placed(server, STYLES[style][0](MADE), style.replace(" ", "_"))
    prompt, model, positive, negative, empty = stage_c_graph()
    loaded = add(prompt, "LoraLoaderModelOnly", model=[model, 0], lora_name=name, strength_model=0.6)
    found = saved(server, prompt, ksampler(prompt, loaded, positive, negative, [empty, 0]))
    lora = load_lora(server.folder / "models/loras" / name)
    expected = stage_c_by_our_own(linear_timesteps(8), network=apply_lora(NETWORK, lora, 0.6))
    assert apart(found, expected) < 1e-3
    assert apart(found, stage_c_by_our_own(linear_timesteps(8))) > 0.01


def test_load_lora_of_the_pack_is_pythons(server: Server):
    name = placed(server, STYLES["kohya"][0](MADE), "own")
    prompt, _, positive, negative, _ = stage_c_graph()
    first = add(prompt, "WuerstchenLoadLoRA", stage_c=["1", 0], name=name, strength=0.3)
    second = add(prompt, "WuerstchenLoadLoRA", stage_c=[first, 0], name=name, strength=0.5)
    sampler = own_sampler(prompt, second, positive, negative)
    found = saved(server, prompt, sampler)
    lora = load_lora(server.folder / "models/loras" / name)
    assert apart(found, sampled_with(lora, 0.8)) < 1e-3
    for node in (first, second):
        prompt[node]["inputs"]["strength"] = 0.0
    assert torch.equal(
        saved(server, prompt, sampler), saved(server, prompt, own_sampler(prompt, "1", positive, negative))
    )


def test_a_merge_is_the_file_that_it_saves(server: Server):
    prompt, _, positive, negative, _ = stage_c_graph()
    parts = [
        add(prompt, "WuerstchenLoadStageC", model=f"cocktail-{each}", dtype="default") for each in ("base", "aesthetic")
    ]
    merged = add(
        prompt, "WuerstchenMergeCheckpoints", stage_c_1=["1", 0], stage_c_2=[parts[0], 0], stage_c_3=[parts[1], 0],
        weight_1=0.5, weight_2=0.75, weight_3=1.0, mode="add difference", blocks="in=1, mid=0.5, out=0.25",
    )  # fmt: skip
    recipe = saved(server, prompt, own_sampler(prompt, merged, positive, negative))
    add(prompt, "WuerstchenSaveStageC", stage_c=[merged, 0], filename_prefix="merged")
    ran(server, prompt)
    (folder,) = (server.folder / "output").glob("merged_*")
    folder.rename(server.folder / "models/wuerstchen/merged")
    prompt["1"]["inputs"]["model"] = "merged"
    again = saved(server, prompt, own_sampler(prompt, "1", positive, negative))
    assert torch.equal(again, recipe)


UNFIT = {
    "another model": (lambda state: {"unet.down_blocks.0.lora_A.weight": torch.ones(2, 2)}, "of another model"),
    "one key more": (lambda state: {**state, "prior.blocks.2.odd.lora_A.weight": torch.ones(2, 2)}, "fits no layer"),
    "another width": (
        lambda state: {key: torch.ones(4, 64) if "lora_A" in key else value for key, value in state.items()},
        "another width",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_does_not_fit_is_refused_by_both_loaders(server: Server, kind):
    change, message = UNFIT[kind]
    name = placed(server, change(STYLES["diffusers"][0](MADE)), kind.replace(" ", "_"))
    prompt, model, positive, negative, empty = stage_c_graph()
    loaded = add(prompt, "LoraLoaderModelOnly", model=[model, 0], lora_name=name, strength_model=1.0)
    add(
        prompt, "SaveLatent", samples=[ksampler(prompt, loaded, positive, negative, [empty, 0]), 0], filename_prefix="x"
    )
    failed = server.run(prompt)
    assert failed.status == "error" and message in str(failed.error)
    prompt, _, positive, negative, _ = stage_c_graph()
    loaded = add(prompt, "WuerstchenLoadLoRA", stage_c=["1", 0], name=name, strength=1.0)
    add(prompt, "SaveLatent", samples=[own_sampler(prompt, loaded, positive, negative), 0], filename_prefix="x")
    failed = server.run(prompt)
    assert failed.status == "error" and "WuerstchenLoadLoRA" in str(failed.error)


def test_other_methods_than_lora_go_through_comfyuis_own(server: Server):
    """LoHa, which Load LoRA refuses by name."""
    generator = torch.Generator().manual_seed(8)
    key, (out, width) = "blocks.2.attention.to_q", NETWORK.state_dict()["blocks.2.attention.to_q.weight"].shape
    parts = {
        f"hada_w{factor}_{side}": torch.randn(*shape, generator=generator) * 0.4
        for factor in (1, 2)
        for side, shape in (("a", (out, 4)), ("b", (4, width)))
    }
    name = placed(server, {f"prior.{key}.{part}": value for part, value in parts.items()}, "loha")
    prompt, model, positive, negative, empty = stage_c_graph()
    loaded = add(prompt, "LoraLoaderModelOnly", model=[model, 0], lora_name=name, strength_model=1.0)
    found = saved(server, prompt, ksampler(prompt, loaded, positive, negative, [empty, 0]))
    changed = load_stage_c("cocktail")
    delta = (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    changed.state_dict()[f"{key}.weight"].add_(delta)
    assert apart(found, stage_c_by_our_own(linear_timesteps(8), network=changed)) < 1e-3
    assert apart(found, stage_c_by_our_own(linear_timesteps(8))) > 0.01
