"""Text that reaches a terminal, a log or a page cannot steer it, and is otherwise what it was."""

import io
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.terminal import SafeFormatter, escape_controls, one_line, print_anything, truncate

STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"


def steers(text: str, but: str = "") -> list[str]:
    return [one for one in text if unicodedata.category(one) in STEERING and one not in JOINERS + but]


@given(st.text(st.characters()))
def test_whatever_the_text_no_character_of_it_steers(text: str) -> None:
    assert steers(escape_controls(text), "\n\t") == []
    assert steers(one_line(text)) == []
    assert steers(truncate(text)) == []
    assert len(truncate(text, 20)) <= 20


@given(st.text(st.characters(exclude_categories=sorted(STEERING))))
def test_text_that_cannot_steer_stays_as_it_is(text: str) -> None:
    assert escape_controls(text) == one_line(text) == text
    assert truncate(text, len(text) + 1) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("safe\u202egnp.exe", "safe\\u202egnp.exe"),
        ("a\u200bb\ufeffc\u00add", "a\\u200bb\\ufeffc\\xadd"),
        ("\u2066x\u2069\u200f", "\\u2066x\\u2069\\u200f"),
        ("one\u2028two", "one\\u2028two"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\N{WOMAN}\u200d\N{PERSONAL COMPUTER}", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}"),
    ],
)
def test_what_is_shown_instead(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_lines_stay_lines_where_text_has_its_own() -> None:
    assert escape_controls("one\n\ttwo\x1b") == "one\n\ttwo\\x1b"


def test_a_log_record_is_one_line_and_its_trace_has_no_more_than_its_own() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(SafeFormatter("%(levelname)s %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    log.error("a name\n2026-01-01 INFO all is well\x1b[1A")
    try:
        raise ValueError("\u202e\x1b[2J")
    except ValueError:
        log.exception("it failed")
    text = out.getvalue()
    assert text.splitlines()[0] == "ERROR a name\\n2026-01-01 INFO all is well\\x1b[1A"
    assert steers(text, "\n") == []


def test_a_terminal_without_unicode_gets_escapes_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    print_anything()
    print("caf\u00e9 \ud800", flush=True)
    assert buffer.getvalue() == b"caf\\xe9 \\ud800\n"
