"""The ComfyUI that the tests in this folder run against: the checkout in $COMFYUI_DIR, with the pack installed in it.

$COMFYUI_PYTHON is the interpreter with its requirements; without it, this one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.comfyui_page import CHROMIUM, opened
from support.comfyui_server import Server, started, with_the_pack
from support.workflows import write_tiny_v2

EXTRA_PATHS = "elsewhere:\n    base_path: {base}\n    wuerstchen: my models\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.comfyui)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with this pack, tiny v2 checkpoints where the published ones belong, and the tests' own probe."""
    folder = tmp_path_factory.mktemp("comfyui")
    with_the_pack(folder)
    (folder / "elsewhere/my models").mkdir(parents=True)
    (folder / "custom_nodes" / "probe").symlink_to(Path(__file__).parent / "probe", target_is_directory=True)
    write_tiny_v2(folder / "models" / "wuerstchen")
    extra = folder / "extra.yaml"
    extra.write_text(EXTRA_PATHS.format(base=folder / "elsewhere"), encoding="utf-8")
    arguments = ("--preview-method", "auto", "--extra-model-paths-config", str(extra))
    with started(folder, *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Any]:
    """The server's page in a browser, ready to be used."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; name one in CHROMIUM")
    pytest.importorskip("playwright", reason="there is no Playwright; pip install -e '.[dev]'")
    with opened(server.url) as page:
        yield page
