"""What a request may ask with: only parameters and fields that the route knows, each once; others are refused by name.

A misspelt filter that is ignored gives an unfiltered answer, which looks right. So it is an error here.
"""

import difflib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.convertors import Convertor, register_url_convertor

from stores.errors import UsageError


class IdConvertor(Convertor[str]):
    """`{name:id}` in a route: anything, as ids of a lake may be, slashes, line breaks and the empty text included."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """The id as it was sent, percent-decoded."""
        return value

    def to_string(self, value: str) -> str:
        """The id in a path."""
        return value


register_url_convertor("id", IdConvertor())


async def known_parameters(request: Request) -> None:
    """Raise UsageError where the query has a parameter that the route does not know, or one of them twice."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    if not given:
        return
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    refuse_unknown(given, known, "parameter")
    if twice := [name for name, count in given.items() if count > 1]:
        raise UsageError(f"{', '.join(map(repr, twice))} is given more than once", expected="each parameter once")


def refuse_unknown(given: Iterable[str], known: list[str], what: str) -> None:
    """Raise UsageError that names what is not known, the nearest known name, and all of them."""
    unknown = [name for name in given if name not in known]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    expected = f"one of {', '.join(known)}" if known else f"no {what}"
    raise UsageError(f"there is no {what} {', '.join(map(repr, unknown))}", expected=expected, fix=hint)


class StrictBody(BaseModel):
    """A request body whose unknown fields are refused as unknown parameters are, and whose values have their types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, sent: Any) -> Any:
        if isinstance(sent, dict):
            refuse_unknown(sent, list(cls.model_fields), "field")
        return sent
