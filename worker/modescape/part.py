"""What every part of a spec has in common: frozen, nothing unknown, no NaN, no truth values where numbers belong."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator

from modescape.errors import InvalidInput

MAX_SEED = 2**53 - 1  # JSON numbers stay whole up to here, in JavaScript too

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Python takes true for 1; a spec does not."""
        if isinstance(value, bool) and cls.model_fields[str(field.field_name)].annotation is not bool:
            raise InvalidInput(
                f"is {str(value).lower()}", allowed="a number, a text, an object or a list, as described"
            )
        return value
