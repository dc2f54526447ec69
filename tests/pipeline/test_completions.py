"""Completion scripts name every verb and option, and the shells that are here read them."""

import shutil
import subprocess

import pytest

from pipeline.cli import VERBS, main, options_of


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_every_verb_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completions", shell]) == 0
    script = capsys.readouterr().out
    for verb in VERBS:
        assert verb in script
        assert all(flag.lstrip("-") in script for flag in options_of(verb))


def test_bash_completes_verbs_and_options(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash on this machine")
    main(["completions", "bash"])
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    asks = f"source {script}; COMP_WORDS=(samespace $1 $2); COMP_CWORD=$#; _samespace; echo ${{COMPREPLY[@]}}"
    for words, expected in ((["cand"], "candidates"), (["candidates", "--max"], "--max-maturity"), (["zzz"], "")):
        done = subprocess.run([bash, "-c", asks, "-", *words], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_examples_that_begin_with_its_name(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    told = capsys.readouterr().out.split("examples:")[1]
    assert f"samespace {verb}" in told
