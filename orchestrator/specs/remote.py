"""How hosts are reached, and what they must have before a run starts on them."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from orchestrator.specs.closed import Closed

Word = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
"""Any text that can be an argument of a command: spaces, quotes and newlines are no matter."""


class SshSpec(Closed):
    """OpenSSH's own settings; what is absent here is as its configuration says."""

    user: Word | None = Field(default=None, description="a hostfile's user@ wins")
    port: int | None = Field(default=None, ge=1, le=65535)
    identity_file: Word | None = Field(default=None, description="a private key")
    config_file: Word | None = Field(default=None, description="instead of ~/.ssh/config")
    options: dict[str, Word] = Field(
        default_factory=dict, description="any of ssh_config(5), as it stands there"
    )
    parallel: PositiveInt = Field(default=32, description="connections being made at a time")

    @field_validator("options")
    @classmethod
    def _check(cls, options: dict[str, str]) -> dict[str, str]:
        wrong = [name for name in options if not (name.isascii() and name.isalnum())]
        if wrong:
            msg = f"'{wrong[0]}' is not the name of an option: letters and digits alone"
            raise ValueError(msg)
        return options


class PreflightSpec(Closed):
    """What every host must have before anything starts."""

    timeout_s: PositiveFloat = Field(default=60.0, description="for all the answers of one host")
    clock_skew_s: PositiveFloat = Field(default=5.0, description="between a host and this one")
    free_disk_gib: float = Field(default=1.0, ge=0, description="where the run directory is")
    gpu_used_gib: float = Field(default=1.0, ge=0, description="most memory in use on a free GPU")
