"""The one exception tree of samespace.

SamespaceError                   exit code 1
├─ UsageError                    2   wrong usage
│  ├─ ConfigError                2   an unknown or unusable setting
│  └─ NotFoundError              2   a lake, release, member or title that is not there
├─ ContractError                 3   input breaks the contract beyond the allowed fraction
├─ GateError                     4   the release was held
├─ BusyError                     5   another night holds the workspace
├─ CorruptError                  1   bytes are not those that were written
├─ MismatchError                 1   two things that must agree do not; both values are named
├─ AlignmentError                1   the fit is not defined on this input
│  └─ AlignmentInputError        2   an argument of the alignment's functions cannot be used (also a UsageError)
├─ EncoderError                  1   a model failed to load or returned something unusable
├─ TrainingError                 1   a training ended without a model that can be used
├─ StoreError                    1   a store cannot be reached or refused a write
└─ ClusterError                  1   Ray does not start or answer, or its workers keep dying
"""

from stores.masking import mask_secrets


class SamespaceError(Exception):
    """What went wrong, where, what was expected, and what to do next, as one readable sentence each.

    Secrets of the configuration and of the environment are masked in all of them.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        self.what, self.where, self.expected, self.fix = map(mask_secrets, (what, where, expected, fix))
        super().__init__(self.what)

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"where: {self.where}")
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.fix:
            parts.append(f"try: {self.fix}")
        return "\n  ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip between Ray processes with every field."""
        return _rebuild, (type(self), self.what, self.where, self.expected, self.fix)


def _rebuild(kind: type[SamespaceError], what: str, where: str, expected: str, fix: str) -> SamespaceError:
    return kind(what, where=where, expected=expected, fix=fix)


class UsageError(SamespaceError):
    """Wrong usage of a command or a function."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown or has a value that cannot be used."""


class NotFoundError(UsageError):
    """A lake, workspace, release, model, member or title that was named is not there."""


class ContractError(SamespaceError):
    """The input breaks the lake's contract beyond the allowed fraction."""

    exit_code = 3


class GateError(SamespaceError):
    """A gate failed and the release is held."""

    exit_code = 4


class BusyError(SamespaceError):
    """Another night holds the workspace."""

    exit_code = 5


class CorruptError(SamespaceError):
    """Stored bytes are not those that were written."""


class MismatchError(SamespaceError):
    """Two things that must agree do not; the message names both values."""


class AlignmentError(SamespaceError):
    """The alignment is not defined on this input."""


class AlignmentInputError(AlignmentError, UsageError):
    """An argument of the alignment's functions has a kind or a shape that cannot be used."""

    exit_code = 2


class EncoderError(SamespaceError):
    """A model cannot be loaded, or returned vectors that cannot be used."""


class TrainingError(SamespaceError):
    """A training met numbers that are not finite, or ended at a model that tells nothing apart; no model is written."""


class StoreError(SamespaceError):
    """A store cannot be reached or refused a write."""


class ClusterError(SamespaceError):
    """Ray does not start or answer, no node came in time, or its workers keep dying."""


def require_text(*words: str) -> None:
    """Raise UsageError for a word of a command line, or a name of a file, whose bytes are not UTF-8."""
    for word in words:
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(
                f"not UTF-8: {word!r}", expected="text in UTF-8", fix="rename the file, or give the word in UTF-8"
            )
