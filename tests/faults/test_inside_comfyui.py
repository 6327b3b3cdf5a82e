"""A real ComfyUI under attack: wrong values, tricks with names, cancels and freed memory at any moment."""

import gzip
import json
import math
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from support.comfyui_attacks import OWN_ERRORS, TARGETS, WRONG, attacks, ended, fault_of, loaders
from support.comfyui_graphs import add, feed, ksampler, one, ran, text_to_image
from support.comfyui_server import Prompt, Server, started, with_the_pack

pytestmark = pytest.mark.comfyui
MEGABYTE = 2**20
ROUNDS = 3
SLACK = 60 * MEGABYTE
"""Growth of the process that is allowed for what Python and the allocator keep."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("attacked")
    with_the_pack(folder)
    (folder / "custom_nodes" / "wrong").symlink_to(WRONG, target_is_directory=True)
    with started(folder) as running:
        yield running


def attacked(node: str, **wrong: Any) -> Prompt:
    """Return a graph with a node that has right inputs, but for those that are given."""
    prompt = loaders()
    prompt["target"] = {"class_type": node, "inputs": {**TARGETS[node], **wrong}}
    if node != "WuerstchenSaveStageC":
        prompt["shown"] = {"class_type": "PreviewAny", "inputs": {"source": ["target", 0]}}
    return prompt


def test_right_values_run(server: Server):
    for node, entry in zip(TARGETS, ended(server, [attacked(node) for node in TARGETS]), strict=True):
        assert entry["status"]["status_str"] == "success", (node, entry["status"])


def test_a_wrong_value_at_any_socket_is_one_clear_error(server: Server, tried):
    tries = list(attacks())
    prompts = []
    for node, name, value in tries:
        prompt = attacked(node, **{name: ["wrong", 0]})
        prompt["wrong"] = {"class_type": "WrongValue", "inputs": value}
        prompts.append(prompt)
    faults = []
    refused = 0
    for (node, name, value), entry in zip(tries, ended(server, prompts), strict=True):
        fault = fault_of(entry, "target")
        refused += entry["status"]["status_str"] == "error"
        if fault:
            faults.append(f"{node}.{name} of {value}: {fault}")
    tried(len(tries))
    assert not faults, "\n".join(faults)
    assert refused > len(tries) / 2, refused


def test_nothing_was_saved_outside_of_the_output_folder(server: Server):
    folders = {"custom_nodes", "input", "output", "models", "user", "temp", "server.log", "cache"}
    assert {path.name for path in server.folder.iterdir()} <= folders
    assert not list(server.folder.parent.glob("*_00001_"))


PROMPTS: dict[str, Callable[[Prompt], Any]] = {
    "a model with a path": lambda prompt: feed(prompt, "LoadStageC", "model", "../../etc/passwd"),
    "an absolute model": lambda prompt: feed(prompt, "LoadStageC", "model", "/etc/passwd"),
    "a model with NUL": lambda prompt: feed(prompt, "LoadStageC", "model", "a\0b"),
    "half a character": lambda prompt: feed(prompt, "LoadStageC", "model", "\ud83d"),
    "a long model": lambda prompt: feed(prompt, "LoadStageC", "model", "x" * 5000),
    "a list as model": lambda prompt: feed(prompt, "LoadStageC", "model", [1, 2, 3]),
    "no model": lambda prompt: feed(prompt, "LoadStageC", "model", None),
    "no dtype": lambda prompt: prompt[one(prompt, "LoadStageC")]["inputs"].pop("dtype"),
    "no steps": lambda prompt: feed(prompt, "StageCSampler", "steps", 0),
    "steps of text": lambda prompt: feed(prompt, "StageCSampler", "steps", "many"),
    "billions of steps": lambda prompt: feed(prompt, "StageCSampler", "steps", 10**10),
    "a large seed": lambda prompt: feed(prompt, "StageCSampler", "seed", 2**64),
    "a large guidance": lambda prompt: feed(prompt, "StageCSampler", "cfg", 1e300),
    "no width": lambda prompt: feed(prompt, "StageCSampler", "width", 0),
    "a large width": lambda prompt: feed(prompt, "StageCSampler", "width", 8193),
    "a large batch": lambda prompt: feed(prompt, "StageCSampler", "batch_size", 10**6),
    "an unknown schedule": lambda prompt: feed(prompt, "StageCSampler", "schedule", "../v2"),
    "Stage B's network": lambda prompt: feed(prompt, "StageCSampler", "stage_c", [one(prompt, "LoadStageB"), 0]),
    "an unknown node": lambda prompt: feed(prompt, "StageCSampler", "stage_c", ["99", 0]),
    "an unknown output": lambda prompt: feed(prompt, "StageCSampler", "stage_c", [one(prompt, "LoadStageC"), 7]),
    "a number as latent": lambda prompt: feed(prompt, "StageADecode", "latent", 7),
    "a dictionary as prompt": lambda prompt: feed(prompt, "StageCSampler", "positive", {"__value__": 1}),
}


NODE_OF = {"a number as latent": "StageADecode", "a dictionary as prompt": "StageCSampler"}


@pytest.mark.parametrize("change", PROMPTS)
def test_a_bad_prompt_is_refused_before_it_runs(server: Server, change, tried):
    prompt = text_to_image()
    PROMPTS[change](prompt)
    tried(1)
    status, answer = server.post("/prompt", {"prompt": prompt})
    if status == 200:  # ComfyUI takes any constant at a socket
        server.settled()
        (entry,) = server.get(f"/history/{answer['prompt_id']}").values()
        assert entry["status"]["status_str"] == "error"
        assert fault_of(entry, one(prompt, NODE_OF[change])) is None
    else:
        assert status == 400 and (answer["node_errors"] or answer["error"]), answer
    server.get("/system_stats")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("target", ["StageBDecode", "StageADecode", "StageCSampler", "KSampler"])
def test_a_latent_file_of_no_numbers_is_refused(server: Server, target, bad, tried):
    channels, side = (4, 64) if target == "StageADecode" else (16, 6)
    tensors = {"latent_tensor": torch.full((1, channels, side, side), bad), "latent_format_version_0": torch.tensor([])}
    save_file(tensors, server.folder / "input" / f"{target}{bad}.latent")
    prompt = text_to_image()
    file = add(prompt, "LoadLatent", latent=f"{target}{bad}.latent")
    if target == "KSampler":
        sampler = prompt[one(prompt, "StageCSampler")]["inputs"]
        model = add(prompt, "WuerstchenStageCToModel", stage_c=sampler["stage_c"])
        texts = sampler["positive"][0], sampler["negative"][0]
        sampled = ksampler(prompt, model, *texts, [file, 0], denoise=0.5)
        feed(prompt, "StageBDecode", "latent", [sampled, 0])
    else:
        feed(prompt, target, "latent", [file, 0])
        if target == "StageCSampler":
            feed(prompt, target, "denoise", 0.5)
    run = server.run(prompt)
    tried(1)
    assert run.error is not None and run.error["exception_type"].startswith(OWN_ERRORS), run.error
    message = run.error["exception_message"]
    if not math.isfinite(bad):
        assert "not numbers" in message, message
    elif target == "KSampler":
        assert "diverged" in message, message
    else:  # the file is right in itself; what the stage makes of it is not
        assert "NaN or infinite" in message and "inputs that are too large" in message, message


TOO_LARGE = 413


def asked(server: Server, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    request = urllib.request.Request(server.url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except urllib.error.URLError as error:  # it closes the connection rather than to read all of a large body
        assert isinstance(error.reason, (ConnectionResetError, BrokenPipeError)) and len(body or b"") > 100_000, error
        return TOO_LARGE, b""


FORGET = "/wuerstchen/forget"
KEY = "0" * 64
BODIES = [
    *(b"", b"{", b"[]", b"7", b"null", b'"key"', b"\xff\xfe", b"{}", b'{"key": null}', b'{"key": []}', b"\0" * 100),
    *(b"[" * 100_000, b"[" * 900, b'{"key": ' * 100, b'{"key": ' + b"9" * 900 + b"}", b'{"key": NaN}'),
    *(json.dumps({"key": key}).encode() for key in ("../" * 21 + "x", KEY[1:], KEY + "0", KEY + "\n", "G" * 64)),
    *(json.dumps({"key": key}).encode() for key in ("/etc/passwd", "é" * 64, "\ud83d" * 64, "\u0660" * 64)),
    b'{"key": "' + KEY.encode() + b'", "key": "x"}',
    b'{"key": "' + b"0" * 10_000_000 + b'"}',
]


def test_a_bad_request_to_the_packs_route_is_refused(server: Server, tried):
    start, count = len(server.log), 0
    for headers in ({}, {"Content-Type": "application/json; charset=nonsense"}, {"Content-Encoding": "gzip"}):
        for body in BODIES:
            status, answer = asked(server, "POST", FORGET, body, headers)
            assert 400 <= status < 500, (status, body[:80], headers, answer[:200])
            count += 1
    bomb = gzip.compress(b" " * 50_000_000)
    paths = [FORGET + "/x", FORGET + "/../../x", "/wuerstchen/", "/wuerstchen/..%2f..%2fetc/passwd", FORGET + "%00"]
    others = [
        ("POST", FORGET, bomb, {"Content-Encoding": "gzip"}),
        *((method, FORGET, None, {}) for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "TRACE", "NONSENSE")),
        *((method, path, b"{}", {}) for method in ("POST", "GET") for path in paths),
    ]
    for method, path, body, headers in others:
        status, answer = asked(server, method, path, body, headers)
        assert 400 <= status < 500, (status, method, path, answer[:200])
    tried(count + len(others))
    good = json.dumps({"key": KEY}).encode()
    assert asked(server, "POST", FORGET + "?key=../../x", good, {}) == (200, b'{"forgotten": false}')
    assert "Error handling request" not in server.log[start:], server.log[start:][-3000:]


def drawn(server: Server) -> bytes:
    """Draw the picture of a normal prompt anew, and return its pixels."""
    prompt = text_to_image()
    feed(prompt, "SaveImage", "filename_prefix", f"normal/{time.time_ns()}")
    (picture,) = server.images(ran(server, prompt))
    return picture.tobytes()


def memory_at_rest(server: Server) -> int:
    """Return the bytes that the server's process holds after it has freed what it can."""
    server.settled(seconds=120)
    for _ in range(2):
        assert server.post("/free", {"unload_models": True, "free_memory": True})[0] == 200
        time.sleep(1.5)  # the worker frees when it next looks at its queue
    (line,) = [each for each in Path(f"/proc/{server.pid}/status").read_text().splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def disturb(server: Server, seed: int, queued: list[str], over: threading.Event, faults: list[Any]) -> None:
    """Interrupt, free memory and delete from the queue at random moments, until it is over."""
    chance = random.Random(seed)
    while not over.is_set():
        one_of_them = chance.choice(queued or [""])
        path, body = chance.choice(
            [
                ("/free", {"unload_models": True, "free_memory": True}),
                ("/interrupt", {}),
                ("/interrupt", {"prompt_id": one_of_them}),
                ("/queue", {"delete": [one_of_them]}),
            ]
        )
        status, answer = server.post(path, body)
        if status != 200:
            faults.append((path, body, status, answer))
        time.sleep(chance.random() * 0.3)


def storm(server: Server, chance: random.Random, prompts: int) -> None:
    """Queue prompts while threads disturb them; check that each is drawn, interrupted or taken from the queue."""
    assert server.post("/history", {"clear": True})[0] == 200
    over, queued, faults = threading.Event(), [], []
    threads = [
        threading.Thread(target=disturb, args=(server, chance.getrandbits(32), queued, over, faults)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(prompts):
            prompt = text_to_image({"Stage C Sampler.seed": number, "Stage C Sampler.steps": chance.randint(2, 6)})
            status, answer = server.post("/prompt", {"prompt": prompt})
            assert status == 200, answer
            queued.append(answer["prompt_id"])
            time.sleep(chance.random() * 0.15)
        time.sleep(1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    server.post("/prompt", {"prompt": text_to_image()})  # so that there is a latest one
    server.settled(seconds=120)
    assert not faults, faults[:3]
    ends = Counter(entry["status"]["messages"][-1][0] for entry in server.get("/history").values())
    print(f"of {prompts} prompts: {dict(ends)}, the others left the queue")
    assert set(ends) <= {"execution_success", "execution_interrupted"}, ends


def test_cancels_and_freed_memory_at_any_moment_leave_no_trace(server: Server, tried):
    seed = random.randrange(2**32)
    print(f"seed of the storms: {seed}")
    chance = random.Random(seed)
    before = drawn(server)
    storm(server, chance, 50)
    assert drawn(server) == before
    start = memory_at_rest(server)
    held = []
    for _ in range(ROUNDS):
        storm(server, chance, 10)
        assert server.get("/system_stats")["system"]
        assert drawn(server) == before
        held.append(memory_at_rest(server))
    tried(50 + ROUNDS * 10)
    print("KiB at rest:", start // 1024, [each // 1024 for each in held])
    assert held[-1] - start < max(SLACK, start * 0.05), (start, held)
