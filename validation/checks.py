"""What the gate asks and what it answers: plain values that go into manifests and reports."""

from collections.abc import Sequence
from typing import Any, Literal

from stores.settings import Settings

Level = Literal["hold", "warn"]


class Expectation(Settings):
    """One figure of a frame and what is allowed: a closed range, or one of some values.

    `level` says what a failure does. `reason` says why the threshold is what it is. A figure that is
    null or absent always fails: what was not measured was not shown to be good. `kind` is the domain's
    own type in `validation.expectations`, empty where a plain range or set says it all.
    """

    name: str
    column: str
    kind: str = ""
    minimum: float | None = None
    maximum: float | None = None
    one_of: tuple[str, ...] | None = None
    level: Level = "hold"
    reason: str = ""
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
    kind: str = ""
    minimum: float | None = None
    maximum: float | None = None
    one_of: tuple[str, ...] | None = None

    @property
    def asked(self) -> Expectation:
        """The expectation that this answers."""
        limits: dict[str, Any] = {"minimum": self.minimum, "maximum": self.maximum, "one_of": self.one_of}
        facts: dict[str, Any] = {"level": self.level, "reason": self.reason, "examples": self.examples}
        return Expectation(name=self.expectation, column=self.column, kind=self.kind, **limits, **facts)

    def __str__(self) -> str:
        found = "not measured" if self.observed is None else shown(self.observed)
        text = f"{self.expectation} ({self.column}): observed {found}, allowed {self.allowed}"
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
