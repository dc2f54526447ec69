"""What the gate asks and what it answers: plain values that go into manifests and reports."""

from collections.abc import Sequence
from string import Formatter
from typing import Any, Literal

from stores.settings import Settings

Level = Literal["hold", "warn"]
_TINY = 1e-6
"""A minimum below this means "more than 0": ranges of Great Expectations are closed."""


class Expectation(Settings):
    """One figure of a frame and what is allowed: a closed range, or one of some values.

    `level` says what a failure does. `reason` says why the threshold is what it is. A figure that is
    null or absent always fails: what was not measured was not shown to be good. `kind` is the domain's
    own type in `validation.gx_gate`, empty where a plain range or set says it all.

    `finding` is the failure as a sentence with its unit and one replacement field for the figure, in the syntax of
    `str.format`: "the newest event is {:.4g} days old". The limits are shown in the format of that field.
    """

    name: str
    column: str
    kind: str = ""
    minimum: float | None = None
    maximum: float | None = None
    one_of: tuple[str, ...] | None = None
    level: Level = "hold"
    reason: str = ""
    finding: str = ""
    examples: tuple[str, ...] = ()

    def with_examples(self, examples: Sequence[Any]) -> "Expectation":
        """The same expectation with a few examples to show where it fails."""
        return self.model_copy(update={"examples": few(examples)})

    @property
    def allowed(self) -> str:
        """The allowed values as text."""
        if self.one_of is not None:
            return " or ".join(self.one_of)
        if self.minimum is not None and self.minimum == self.maximum:
            return shown(self.minimum)
        if self.minimum is None and self.maximum is None:
            return "any measured value"
        if self.minimum is None:
            return f"≤ {shown(self.maximum)}"
        if self.maximum is None:
            return f"≥ {shown(self.minimum)}"
        return f"{shown(self.minimum)} to {shown(self.maximum)}"


class Check(Settings):
    """The answer to one expectation; `observed` is None where the figure is absent.

    `kind` is the type that Great Expectations answered, such as `expect_vectors_to_be_finite`.
    """

    expectation: str
    column: str
    observed: float | int | str | bool | None
    allowed: str
    passed: bool
    level: Level
    examples: tuple[str, ...] = ()
    reason: str = ""
    finding: str = ""
    kind: str = ""
    minimum: float | None = None
    maximum: float | None = None
    one_of: tuple[str, ...] | None = None

    @property
    def explanation(self) -> str:
        """The figure and the limit that it is outside of as one sentence: "the newest event is 334 days old, limit 7".

        A check that passed is described by the same figure, without a limit.
        """
        if self.observed is None:
            return f"{self.expectation}: not measured"
        if not self.finding:
            return f"{self.expectation}: found {shown(self.observed)}, allowed {self.allowed}"
        limit, style = self._limit, _style(self.finding)
        found = _styled(self.observed, style)
        if limit is None or isinstance(self.observed, str):
            allowed = "" if self.passed or self.one_of is None else f", allowed {self.allowed}"
            return _filled(self.finding, found) + allowed
        word, bound = limit
        allowed = _styled(bound, style)
        if allowed == found:  # rounded to the same text
            found, allowed = shown_exactly(self.observed, style), shown_exactly(bound, style)
        return f"{_filled(self.finding, found)}, {'more than 0' if 0 < bound < _TINY else f'{word} {allowed}'}"

    @property
    def _limit(self) -> tuple[str, float] | None:
        """The limit that a failed figure is outside of, and the word before it."""
        if self.passed or isinstance(self.observed, str | None):
            return None
        if self.minimum is not None and self.minimum == self.maximum:
            return "expected", self.minimum
        if self.minimum is not None and self.observed < self.minimum:
            return "at least", self.minimum
        return None if self.maximum is None else ("limit", self.maximum)

    @property
    def asked(self) -> Expectation:
        """The expectation that this answers."""
        limits: dict[str, Any] = {"minimum": self.minimum, "maximum": self.maximum, "one_of": self.one_of}
        facts: dict[str, Any] = {"level": self.level, "reason": self.reason, "examples": self.examples}
        facts["finding"] = self.finding
        return Expectation(name=self.expectation, column=self.column, kind=self.kind, **limits, **facts)

    def __str__(self) -> str:
        found = "not measured" if self.observed is None else shown(self.observed)
        text = f"{self.expectation} ({self.column}): observed {found}, allowed {self.allowed}"
        if self.finding and self.observed is not None:
            text += f"; {self.explanation}"
        if self.examples:
            text += f"; for example {', '.join(self.examples)}"
        return f"{text} — {self.reason}" if self.reason else text


class GateVerdict(Settings):
    """All answers of one gate; `passed` unless an expectation of the level hold failed."""

    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing holds the release."""
        return not self.held

    @property
    def held(self) -> tuple[Check, ...]:
        """The failed checks that hold the release."""
        return tuple(check for check in self.checks if not check.passed and check.level == "hold")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The failed checks that only warn."""
        return tuple(check for check in self.checks if not check.passed and check.level == "warn")

    def message(self) -> str:
        """One line per failed check; what a GateError prints."""
        if self.passed:
            return f"gate {self.name}: passed {len(self.checks)} checks, {len(self.warnings)} warnings"
        lines = "\n".join(f"  - {check}" for check in self.held)
        return f"gate {self.name}: held by {len(self.held)} of {len(self.checks)} checks\n{lines}"

    def metrics(self) -> dict[str, Any]:
        """The verdict as the metrics of a stage report."""
        checks = [check.model_dump(mode="json") for check in self.checks]
        failed = [str(check) for check in self.held]
        return {"passed": self.passed, "failed": failed, "checks": checks, "message": self.message()}

    @classmethod
    def of(cls, name: str, metrics: dict[str, Any]) -> "GateVerdict":
        """The verdict that `metrics` wrote."""
        return cls(name=name, checks=tuple(Check.model_validate(check) for check in metrics["checks"]))


def _style(finding: str) -> str:
    """The format of the one replacement field of a finding."""
    return next((style or "" for _, name, style, _ in Formatter().parse(finding) if name is not None), "")


def _filled(finding: str, figure: str) -> str:
    """A finding with its figure as text."""
    return "".join(text + (figure if name is not None else "") for text, name, _, _ in Formatter().parse(finding))


def _styled(value: Any, style: str) -> str:
    if not style or isinstance(value, str | bool):
        return shown(value)
    return format(value, style)


def shown_exactly(value: float, style: str) -> str:
    """A figure with enough digits to tell it from a limit that it is close to."""
    return f"{100 * value:.10g}%" if style.endswith("%") else f"{value:.12g}"


def shown(value: Any) -> str:
    """A figure as a person writes it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def few(values: Sequence[Any], count: int = 5) -> tuple[str, ...]:
    """The first few values as text, for `examples`."""
    return tuple(str(value) for value in values[:count])
