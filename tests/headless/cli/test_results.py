"""The command and what it need not do again: the cache on disk, sweeps, dry runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from support.workflows import QUICK_RUN, write_checkpoints
from wuerstchen_core.networks.processor import is_plain_linux
from wuerstchen_nodes.headless import cli


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return folder, [f"--set={key}={value}" for key, value in write_checkpoints(folder).items()]


@pytest.fixture
def run(models, monkeypatch, capsys):
    """`wuerstchen run` of the text-to-image example with tiny checkpoints; gives (code, lines of stdout, stderr)."""
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(models[0]))

    def command(*options):
        arguments = ["run", *models[1], *(f"--set={each}" for each in QUICK_RUN), *map(str, options)]
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return command


def events(lines, kind):
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def ran(lines):
    return [event["node"] for event in events(lines, "node") if event["state"] == "running"]


def pixels(path):
    with Image.open(path) as image:
        return image.tobytes()


def test_a_second_run_loads_nothing_and_draws_the_same_picture(run):
    first, second = run("--json"), run("--json")
    assert ran(second[1]) == ["13"]
    one, two = (events(lines, "saved")[0]["path"] for _, lines, _ in (first, second))
    assert one != two
    assert pixels(one) == pixels(two)
    assert len(list(Path("cache").glob("*.safetensors"))) == 6


@pytest.mark.skipif(not is_plain_linux(), reason="torch has to be asked for the device")
def test_a_run_that_only_saves_again_does_without_torch(run, models):
    run()
    options = [f"--set={each}" for each in QUICK_RUN]
    code = f"""
import sys
from wuerstchen_nodes.headless import cli
from wuerstchen_core.networks.processor import is_plain_linux
cli.main({["run", *models[1], *options]!r})
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path, modules = done.stdout.splitlines()
    assert Path(path).is_file()
    assert "torch" not in modules.split()


def test_another_seed_for_stage_b_runs_no_text_encoder_and_no_stage_c(run):
    run()
    assert ran(run("--json", "--set=10.seed=77")[1]) == ["9", "10", "11", "12", "13"]


def test_other_weights_under_the_same_name_are_another_picture(models, run):
    from safetensors.torch import load_file, save_file

    run()
    (weights,) = (models[0] / "stage_a").glob("*.safetensors")
    content = weights.read_bytes()
    try:
        save_file({name: tensor * 0.5 for name, tensor in load_file(weights).items()}, weights)
        assert ran(run("--json")[1]) == ["11", "12", "13"]
    finally:
        weights.write_bytes(content)
    assert pixels("output/wuerstchen_00001_.png") != pixels("output/wuerstchen_00002_.png")
    assert ran(run("--json")[1]) == ["13"]


def test_no_cache_and_a_cache_elsewhere(run):
    assert run("--no-cache")[0] == 0
    assert not Path("cache").exists()
    assert run("--cache=mine")[0] == 0
    assert not Path("cache").exists() and Path("mine").is_dir()
    assert ran(run("--cache=mine", "--json")[1]) == ["13"]
    code, _, err = run("--cache=mine", "--no-cache")
    assert code == 2 and "exclude each other" in err


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(run):
    Path("file").touch()
    code, lines, err = run("--cache=file/here", "--quiet")
    assert (code, lines) == (0, ["output/wuerstchen_00001_.png"])
    assert err.count("warning: ") == 1 and "--no-cache" in err


def test_a_sweep_over_stage_b_runs_stage_c_once_and_makes_a_sheet(run):
    options = ("--sweep=Stage B Decode.seed=1..3", "--sweep=Stage B Decode.cfg=0,2", "--grid=sheet.png", "--json")
    code, lines, _ = run(*options)
    assert code == 0
    nodes = ran(lines)
    assert [nodes.count(each) for each in ("1", "7", "8", "9", "10", "12", "13")] == [1, 1, 1, 1, 6, 6, 6]
    saved = events(lines, "saved")
    assert [each["settings"] for each in saved] == [
        {"Stage B Decode.seed": seed, "Stage B Decode.cfg": cfg} for seed in (1, 2, 3) for cfg in (0.0, 2.0)
    ]
    assert [each["point"] for each in saved] == [1, 2, 3, 4, 5, 6]
    assert events(lines, "grid") == [{"event": "grid", "path": "sheet.png"}]
    with Image.open("sheet.png") as image:
        assert image.width > 2 * 128 and image.height > 3 * 128
    with Image.open(saved[3]["path"]) as image:
        inputs = json.loads(image.info["prompt"])["10"]["inputs"]
    assert (inputs["seed"], inputs["cfg"]) == (2, 2.0)
    assert run(*options)[1][-2:][0] == json.dumps({"event": "grid", "path": "sheet_2.png"})


def test_a_dry_run_says_what_would_run_and_runs_nothing(run):
    code, lines, _ = run("--dry-run", "--json")
    assert code == 0
    assert {event["node"]: event["state"] for event in events(lines, "forecast")} == {
        f"{node}": "run" for node in range(1, 14)
    }
    assert not Path("output").exists()
    run()
    _, lines, _ = run("--dry-run")
    assert lines == [
        '12 "Stage A VQGAN Decode" (WuerstchenStageADecode): from the cache',
        '13 "Save Image" (SaveImage): would run',
    ]
    _, lines, _ = run("--dry-run", "--json", "--sweep=10.seed=5,6")
    seen = [(event["point"], event["node"]) for event in events(lines, "forecast") if event["state"] == "run"]
    assert seen == [(1, each) for each in ("9", "10", "11", "12", "13")] + [(2, each) for each in ("10", "12", "13")]
    assert len(list(Path("output").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--grid=x.png"], "at least one --sweep"),
        (["--grid=x.jpg", "--sweep=10.seed=1,2"], "ends in .png"),
        (["--sweep=10.seed"], "expected NODE.input=VALUES"),
        (["--sweep=nowhere.seed=1"], "no node 'nowhere'"),
    ],
)
def test_bad_usage(run, options, says):
    code, lines, err = run(*options)
    assert (code, lines) == (2, [])
    assert says in err
    assert not Path("output").exists()
