"""The command line: exit codes, one line of JSON, errors that help."""

import json
from pathlib import Path

import pytest

from pipeline.arguments import CommandResult
from pipeline.arguments import format_table as text_table
from pipeline.cli import VERBS, main
from pipeline.config import read_config


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "--workspace" in capsys.readouterr().out


def test_an_unknown_verb_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fly"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nightly", "--lake", "nowhere"], "nowhere"),
        (["train", "--lake", "nowhere"], "nowhere"),
        (["nightly", "--lake", "x", "--set", "encode.bach=1"], "unknown key encode.bach"),
        (["nightly", "--config", "no.toml"], "no.toml"),
        (["nightly", "--lake", "x", "--as-of", "yesterday"], "ISO 8601"),
        (["similar", "1"], "nothing is published yet"),
        (["candidates", "1"], "nothing is published yet"),
        (["releases", "show"], "nothing is published yet"),
        (["gc", "--keep", "0"], "--keep"),
        (["import", "movielens", "nowhere", "lake"], "nowhere"),
    ],
)
def test_wrong_usage_exits_2_with_a_sentence_that_helps(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_json_prints_one_line_also_for_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["similar", "1", "--json"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["error"]["exit_code"] == 2
    assert main(["releases", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["releases"] == []


@pytest.mark.parametrize(
    ("words", "prog"),
    [(["similar"], "samespace similar"), (["fly"], "samespace"), (["similar", "1", "--no"], "samespace")],
)
def test_words_that_cannot_be_parsed_are_told_like_every_error(
    words: list[str], prog: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--json"])
    assert stopped.value.code == 2
    told = capsys.readouterr()
    [line] = told.out.splitlines()
    fault = json.loads(line)["error"]
    assert fault["exit_code"] == 2
    assert fault["fix"] == f"{prog} --help"
    assert fault["expected"].startswith(prog)
    assert fault["what"] in told.err


def test_a_service_for_others_says_how_to_be_safe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMESPACE_TOKEN", raising=False)
    assert main(["serve", "--host", "0.0.0.0", "--port", "0", "--json"]) == 2
    assert "SAMESPACE_TOKEN=" in json.loads(capsys.readouterr().out)["error"]["fix"]


def test_an_empty_lake_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("interactions", "titles"):
        Path("lake", table).mkdir(parents=True)
    assert main(["nightly", "--lake", "lake"]) == 2
    assert "interactions" in capsys.readouterr().err


def test_init_writes_the_file_once() -> None:
    assert main(["init"]) == 0
    assert main(["init"]) == 2


def test_init_writes_where_config_says_with_what_was_given() -> None:
    words = ["init", "--config", "night.toml", "--lake", "my lake", "--set", "histories.max_tokens=7"]
    assert main(words) == 0
    assert not Path("samespace.toml").exists()
    found = read_config("night.toml")
    assert (found.lake, found.workspace, found.histories.max_tokens) == ("my lake", "workspace", 7)
    before = Path("night.toml").read_text()
    assert main(words) == 2
    assert Path("night.toml").read_text() == before


@pytest.mark.parametrize(
    "words",
    [
        ["a.toml", "--config", "b.toml"],
        ["--config", "nowhere/b.toml"],
        ["--set", "histories.max_token=7"],
        ["--set", "histories.max_tokens=none"],
    ],
)
def test_init_refuses_what_it_cannot_write(words: list[str]) -> None:
    assert main(["init", *words]) == 2
    assert list(Path().rglob("*.toml")) == []


def test_doctor_is_content_with_this_environment(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert (code == 0) == facts["healthy"]
    assert {"ray", "torch", "faiss", "disk"} <= {finding["what"] for finding in facts["findings"]}


def test_an_answer_cannot_steer_a_terminal_and_is_always_json() -> None:
    answer = CommandResult({"a": [float("nan"), (float("-inf"), 1.5)], "b": {"c": float("inf")}}, "x\x1b[2J\u202e\ny")
    assert json.loads(json.dumps(answer.facts, allow_nan=False)) == {"a": [None, [None, 1.5]], "b": {"c": None}}
    assert answer.text == "x\\x1b[2J\\u202e\ny"


def test_a_cell_of_a_table_is_one_line() -> None:
    lines = text_table([{"name": "a\nb\x1b[1A", "n": 1}, {"name": None, "n": 2}]).splitlines()
    assert len(lines) == 3
    assert "a\\nb\\x1b[1A" in lines[1]


@pytest.mark.parametrize("words", [["similar", "\x1b]0;x\x07\u202e"], ["candidates", "\x9b2J"], ["report", "\x1b[2J"]])
def test_an_error_that_quotes_what_was_typed_cannot_steer_a_terminal(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert not set(told.err) & set("\x1b\x07\x9b\u202e")


def test_a_crash_that_quotes_a_name_cannot_steer_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(_: object) -> None:
        raise ZeroDivisionError("\x1b[2J\u202e")

    monkeypatch.setattr("pipeline.commands.releases.run", crash)
    assert main(["releases"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert not set(told) & set("\x1b\u202e")
