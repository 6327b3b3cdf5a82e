"""Weights from strangers: no file runs code, hangs or takes the memory; each gives one clear line."""

import random

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from support.hostile_checkpoints import CONTAINERS, LOADERS, SUFFIXES, legacy, payloads, refusal, torch_zip
from wuerstchen_core.checkpoints.reading import read_tensors


@pytest.mark.parametrize("container", CONTAINERS)
def test_no_pickle_runs_code(container, tmp_path, tried):
    canary = tmp_path / "canary"
    for index, (name, pickled) in enumerate(payloads(canary).items()):
        path = tmp_path / f"{index}{SUFFIXES[index % len(SUFFIXES)]}"
        path.write_bytes(CONTAINERS[container](pickled))
        kind = list(LOADERS)[index % len(LOADERS)]
        try:
            refusal(LOADERS[kind], path)
        except BaseException as error:
            print("FAIL", container, "|", name, "|", kind, type(error), str(error)[:300])
        assert not canary.exists(), name
        tried(1)
