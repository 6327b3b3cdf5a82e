"""Test LoRAs: every key style against peft and diffusers, stacking, text encoders, dtypes, and errors."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import loras, tiny
from support.loras import ALPHA, RANK, STYLES
from wuerstchen_core import (
    CheckpointError,
    InputError,
    WeightsMissingError,
    WithLoras,
    apply_lora,
    apply_loras,
    load_lora,
    load_stage_c,
    load_text_encoder,
    merge,
    save_stage_c,
)

NETWORK = tiny.stage_c()
ATTENTION = loras.pairs(NETWORK.state_dict(), loras.attention_layers())
EVERY = loras.pairs(NETWORK.state_dict(), loras.every_layer(NETWORK), seed=1)


def written(folder, style, made=ATTENTION, name="lora.safetensors", **metadata):
    write, scale = STYLES[style]
    state = {key: tensor.clone().contiguous() for key, tensor in write(made).items()}
    save_file(state, folder / name, metadata=metadata)
    return folder / name, scale


def prediction(network):
    generator = torch.Generator().manual_seed(3)
    x, text = torch.randn(2, 16, 6, 9, generator=generator), torch.randn(2, 7, 32, generator=generator)
    ratio = torch.tensor([0.7, 0.2])
    with torch.no_grad():
        return network(x, ratio, text)


def difference(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def with_peft(made, scale):
    """Diffusers' network with the LoRA added by peft, which computes both paths."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    twin = tiny.diffusers_twin(NETWORK)
    config = LoraConfig(r=RANK, lora_alpha=RANK * scale, target_modules=list(made), init_lora_weights=False)
    inject_adapter_in_model(config, twin)
    state = {}
    for layer, (down, up) in made.items():
        state[f"{layer}.lora_A.weight"], state[f"{layer}.lora_B.weight"] = down, up
    assert not set_peft_model_state_dict(twin, state).unexpected_keys
    return twin.eval()


@pytest.mark.parametrize("style", STYLES)
def test_every_key_style_gives_what_peft_gives(tmp_path, style):
    path, scale = written(tmp_path, style)
    changed = prediction(apply_lora(NETWORK, load_lora(path)))
    assert difference(changed, prediction(with_peft(ATTENTION, scale))) < 1e-5
    assert difference(changed, prediction(NETWORK)) > 0.01


@pytest.mark.parametrize("style", ["diffusers", "diffusers before peft", "diffusers, third form", "OneTrainer"])
def test_files_that_diffusers_reads_give_what_it_gives(tmp_path, style):
    path, scale = written(tmp_path, style)
    twin, state = tiny.diffusers_twin(NETWORK), load_file(path)
    alphas = {key: float(state.pop(key)) for key in list(state) if key.endswith(".alpha")}
    if alphas:  # diffusers' pipelines take the alphas out of the file, and rename these two
        state = {
            key.replace("lora_down", "lora.down").replace("lora_up", "lora.up"): value for key, value in state.items()
        }
    twin.load_lora_adapter(state, prefix="prior", network_alphas=alphas or None)
    assert difference(prediction(apply_lora(NETWORK, load_lora(path))), prediction(twin)) < 1e-5
    assert scale == (ALPHA / RANK if alphas else 1)


def test_alpha_in_the_metadata_of_diffusers(tmp_path):
    path = tmp_path / "lora.safetensors"
    twin = with_peft(ATTENTION, 2.0)
    state = {
        f"prior.{layer}.{name}.weight": tensor
        for layer, pair in ATTENTION.items()
        for name, tensor in (("lora_B", pair.up), ("lora_A", pair.down))
    }
    settings = {"prior.lora_alpha": 2.0 * RANK, "prior.r": RANK}
    save_file(state, path, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(settings)})
    assert difference(prediction(apply_lora(NETWORK, load_lora(path))), prediction(twin)) < 1e-5


def test_folder_of_peft_with_its_alpha(tmp_path):
    written(tmp_path, "peft", name="adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 3 * RANK, "use_rslora": False}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    changed = prediction(apply_lora(NETWORK, load_lora(tmp_path)))
    assert difference(changed, prediction(with_peft(ATTENTION, 3.0))) < 1e-5


@pytest.mark.parametrize("style", ["OneTrainer", "kohya", "bare"])
def test_every_layer_that_has_weights(tmp_path, style):
    path, scale = written(tmp_path, style, EVERY)
    changed = apply_lora(NETWORK, load_lora(path), 0.5).state_dict()
    expected = loras.deltas(EVERY, scale * 0.5)
    for key, weight in NETWORK.state_dict().items():
        wanted = weight.double() + expected[key] if key in expected else weight.double()
        assert torch.allclose(changed[key].double(), wanted, rtol=0, atol=1e-5), key


def test_packed_projection_is_split(tmp_path):
    generator = torch.Generator().manual_seed(4)
    down, up = torch.randn(RANK, 64, generator=generator), torch.randn(192, RANK, generator=generator)
    state = {"blocks.2.attention.attn.in_proj.lora_down.weight": down}
    state["blocks.2.attention.attn.in_proj.lora_up.weight"] = up
    save_file(state, tmp_path / "packed.safetensors")
    changed = apply_lora(NETWORK, load_lora(tmp_path / "packed.safetensors")).state_dict()
    for name, part in zip("qkv", up.chunk(3), strict=True):
        key = f"blocks.2.attention.to_{name}.weight"
        assert torch.allclose(changed[key], NETWORK.state_dict()[key] + part @ down, atol=1e-5)


def test_order_of_stacking_does_not_matter_and_strength_0_is_nothing(tmp_path):
    stack = []
    for seed, strength in enumerate((0.7, -0.3, 1.1)):
        made = loras.pairs(NETWORK.state_dict(), loras.attention_layers(), seed=seed)
        stack.append((load_lora(written(tmp_path, "diffusers", made, f"{seed}.safetensors")[0]), strength))
    first = apply_loras(NETWORK, stack).state_dict()
    for order in ((2, 0, 1), (1, 2, 0)):
        shuffled = [stack[index] for index in order]
        assert all(torch.equal(first[key], value) for key, value in apply_loras(NETWORK, shuffled).state_dict().items())
        nested = NETWORK
        for each in shuffled:
            nested = WithLoras(nested, [each])
        assert all(torch.equal(first[key], value) for key, value in merge(nested).state_dict().items())
    assert apply_lora(NETWORK, stack[0][0], 0) is NETWORK
    assert all(
        torch.equal(value, NETWORK.state_dict()[key])
        for key, value in merge(WithLoras(NETWORK, [(stack[0][0], 0.0)])).state_dict().items()
    )


def test_half_precision_is_rounded_once(tmp_path):
    path, _ = written(tmp_path, "diffusers")
    half = tiny.stage_c().to(torch.bfloat16)
    changed, expected = apply_lora(half, load_lora(path)), loras.deltas(ATTENTION)
    key = "blocks.2.attention.to_q.weight"
    assert changed.projection.weight.dtype == torch.bfloat16
    exact = (half.state_dict()[key].double() + expected[key]).to(torch.bfloat16)
    assert float((changed.state_dict()[key] != exact).float().mean()) < 0.01  # float32 is rounded twice, seldom seen


def test_a_saved_network_with_a_lora_is_the_same_in_diffusers(tmp_path):
    changed = apply_lora(NETWORK, load_lora(written(tmp_path, "diffusers")[0]))
    save_stage_c(changed, tmp_path / "prior")
    theirs = tiny.diffusers_class(type(NETWORK)).from_pretrained(tmp_path / "prior").eval()
    assert difference(prediction(changed), prediction(theirs)) < 1e-5
    assert difference(prediction(theirs), prediction(with_peft(ATTENTION, 1.0))) < 1e-5


def text_lora(encoder, prefix, seed=0):
    keys = {key.removeprefix("text_model."): weight for key, weight in encoder.model.state_dict().items()}
    layers = [key.removesuffix(".weight") for key in keys if key.endswith("_proj.weight")]
    made = loras.pairs(keys, layers, seed)
    state = {}
    for layer, (down, up) in made.items():
        name = layer.replace(".", "_") if prefix.endswith("_") else layer
        state[f"{prefix}{name}.lora_down.weight"], state[f"{prefix}{name}.lora_up.weight"] = down, up
    return state, made


@pytest.mark.parametrize("prefix", ["text_encoder.text_model.", "lora_te_text_model_", "text_encoder."])
def test_text_encoder(tmp_path, prefix):
    tiny.save_text(tmp_path / "text", width=32, seed=1)
    encoder = load_text_encoder(tmp_path / "text")
    state, made = text_lora(encoder, prefix)
    save_file({**STYLES["diffusers"][0](ATTENTION), **state}, tmp_path / "both.safetensors")
    lora = load_lora(tmp_path / "both.safetensors")
    before = encoder.encode(["a cat"])
    changed = apply_lora(encoder, lora, 0.5)
    expected = loras.deltas(made, 0.5)
    own = {key.removeprefix("text_model."): value for key, value in encoder.model.state_dict().items()}
    for key, value in changed.model.state_dict().items():
        plain = key.removeprefix("text_model.")
        wanted = own[plain].double() + expected[plain] if plain in expected else own[plain].double()
        assert torch.allclose(value.double(), wanted, atol=1e-5), key
    assert not torch.allclose(changed.encode(["a cat"]), before)
    assert torch.equal(encoder.encode(["a cat"]), before), "the loaded encoder is untouched"
    assert not torch.allclose(prediction(apply_lora(NETWORK, lora)), prediction(NETWORK))


def test_text_encoder_in_any_order(tmp_path):
    tiny.save_text(tmp_path / "text", width=32, seed=1)
    encoder = load_text_encoder(tmp_path / "text")
    stack = []
    for seed in (0, 1):
        save_file(text_lora(encoder, "text_encoder.", seed)[0], tmp_path / f"{seed}.safetensors")
        stack.append(load_lora(tmp_path / f"{seed}.safetensors"))
    one = apply_lora(apply_lora(encoder, stack[0], 0.4), stack[1], 0.9)
    other = apply_lora(apply_lora(encoder, stack[1], 0.9), stack[0], 0.4)
    assert torch.equal(one.encode(["a cat"]), other.encode(["a cat"]))
    with pytest.raises(CheckpointError, match=r"0.safetensors has no part for Stage C, only for the text encoder"):
        apply_lora(NETWORK, stack[0])


def refused(tmp_path, state, message, network=NETWORK):
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=message):
        apply_lora(network, load_lora(tmp_path / "bad.safetensors"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("prior.blocks.2.attention.to_z.lora_A.weight", r"'prior.blocks.2.attention.to_z.lora_A.weight' fits no layer"),
        (
            "lora_unet_down_blocks_0_resnets_0.lora_up.weight",
            r"_resnets_0.lora_up.weight' fits no layer",
        ),
        ("prior.blocks.2.attention.to_q.hada_w1_a", "hada_w1_a' belongs to a LoHa; expected a LoRA"),
        ("prior.blocks.2.attention.to_q.lokr_w1", "belongs to a LoKr"),
        ("prior.blocks.2.attention.to_q.dora_scale", "belongs to a DoRA"),
        ("blocks.5.attention.to_q.lora_A.weight", "two tensors for 'blocks.5.attention.to_q'"),
        ("prior.blocks.0.channelwise.0.lora_A.weight", "has no counterpart; expected a pair"),
        ("prior.blocks.1.mapper.alpha", "has no counterpart"),
    ],
)
def test_keys_that_do_not_belong_are_named(tmp_path, extra, message):
    refused(tmp_path, {**STYLES["diffusers"][0](ATTENTION), extra: torch.randn(4, 64)}, message)


def test_other_models_and_networks_are_refused(tmp_path):
    refused(tmp_path, {"unet.down_blocks.0.lora_A.weight": torch.ones(2, 2)}, "looks like no LoRA of Würstchen")
    refused(tmp_path, NETWORK.state_dict(), "looks like no LoRA of Würstchen")
    wide = loras.pairs({f"{layer}.weight": (96, 96) for layer in ATTENTION}, list(ATTENTION))
    refused(
        tmp_path, STYLES["bare"][0](wide), r"by \[96, 96\]; expected \[64, 64\]. It was made for a network of another"
    )
    deep = loras.pairs(
        {f"{layer}.weight": (64, 64) for layer in loras.attention_layers(32)}, loras.attention_layers(32)
    )
    refused(
        tmp_path, STYLES["bare"][0](deep), r"changes 'blocks.\d+.attention.to_k.weight', which this Stage C does not"
    )


def test_broken_values_and_shapes_are_named(tmp_path):
    state = STYLES["diffusers"][0](ATTENTION)
    key = "prior.blocks.2.attention.to_q.lora_B.weight"
    refused(
        tmp_path, {**state, key: torch.full_like(state[key], float("nan"))}, f"'{key}' holds values that are not fin"
    )
    refused(tmp_path, {**state, key: torch.ones(64, 5)}, r"has shape \[64, 5\] and .*; expected \[out, rank\]")
    refused(tmp_path, {**state, key: torch.ones(64)}, r"has shape \[64\]")
    dense = {"blocks.0.depthwise.lora_down.weight": torch.ones(4, 64, 3, 3)}
    dense["blocks.0.depthwise.lora_up.weight"] = torch.ones(64, 4, 1, 1)
    refused(tmp_path, dense, "mixes the channels of a depthwise convolution")
    packed = {"blocks.2.attention.attn.in_proj.lora_up.weight": torch.ones(64, 4)}
    refused(tmp_path, packed, "splits into 3 equal parts")


def test_files_that_are_cut_empty_or_absent(tmp_path):
    path, _ = written(tmp_path, "diffusers")
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"is empty|damaged or incomplete|neither a safetensors"):
            load_lora(path)
    with pytest.raises(WeightsMissingError, match="does not exist; expected a LoRA file"):
        load_lora(tmp_path / "absent.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsMissingError, match="holds no LoRA"):
        load_lora(tmp_path / "folder")
    save_file({}, tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load_lora(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 1e9])
def test_strengths_that_are_no_numbers(tmp_path, strength):
    with pytest.raises(InputError, match=r"The strength of lora.safetensors is"):
        apply_lora(NETWORK, load_lora(written(tmp_path, "bare")[0]), strength)


def test_names_of_onetrainer(tmp_path, caplog):
    """Projections by number, as its exchange format has them, the older name of a projection, and an embedding."""
    made = loras.pairs(NETWORK.state_dict(), [f"blocks.5.attention.to_{name}" for name in "qkv"])
    names = ("unet.blocks.5.attention.attn.in_proj.0", "prior.blocks.5.attention.attn.in_proj.1")
    names += ("lora_prior_unet_blocks_5_attention_attn_to_v",)
    state = {}
    for name, (down, up) in zip(names, made.values(), strict=True):
        state[f"{name}.lora_down.weight"], state[f"{name}.lora_up.weight"] = down, up
    state["bundle_emb.<cat>.clip_g"] = torch.ones(2, 32)
    save_file(state, tmp_path / "lora.safetensors")
    changed = apply_lora(NETWORK, load_lora(tmp_path / "lora.safetensors")).state_dict()
    for key, delta in loras.deltas(made).items():
        assert torch.allclose(changed[key].double(), NETWORK.state_dict()[key].double() + delta, atol=1e-5), key
    assert "also holds the textual inversions <cat>, which are left out" in caplog.text


def test_pickles_are_read_without_running_them(tmp_path):
    torch.save(STYLES["bare"][0](ATTENTION), tmp_path / "lora.pt")
    expected = prediction(apply_lora(NETWORK, load_lora(written(tmp_path, "bare")[0])))
    assert torch.equal(prediction(apply_lora(NETWORK, load_lora(tmp_path / "lora.pt"))), expected)


def test_a_recipe_of_a_file_is_the_loaded_network_with_the_lora(tmp_path):
    save_stage_c(NETWORK, tmp_path / "prior")
    lora = load_lora(written(tmp_path, "kohya")[0])
    lazily = merge(WithLoras(tmp_path / "prior", [(lora, 0.8)])).state_dict()
    eagerly = apply_lora(load_stage_c(tmp_path / "prior"), lora, 0.8).state_dict()
    assert all(torch.equal(lazily[key], value) for key, value in eagerly.items())
