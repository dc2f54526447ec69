"""The base of every configuration class: frozen, and unknown keys are refused.

A configuration class lives beside the code that it configures, with its defaults there and nowhere
else; `pipeline/config.py` only gathers them into one TOML file.
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings whose unknown keys are refused; a docstring below a field describes it in `samespace init`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
