import shutil
import subprocess

import pytest

from wuerstchen_nodes.headless import cli


def script_of(shell, capsys) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_verbs_and_options_and_the_shell_takes_it(shell, capsys, tmp_path):
    script = script_of(shell, capsys)
    for word in ("generate", "sweep", "comfyui", "wuerstchen"):
        assert word in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} to ask whether the script is right")
    (tmp_path / "script").write_text(script)
    subprocess.run([program, "-n", "script"], check=True, cwd=tmp_path)


def test_bash_completes_a_verb_and_an_option(capsys, tmp_path):
    (tmp_path / "script").write_text(script_of("bash", capsys))
    asked = """
    source ./script
    COMP_WORDS=(wuerstchen gen) COMP_CWORD=1; _shtab_wuerstchen; echo "${COMPREPLY[@]}"
    COMP_WORDS=(wuerstchen run --sw) COMP_CWORD=2; _shtab_wuerstchen; echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == ["generate", "--sweep"]
