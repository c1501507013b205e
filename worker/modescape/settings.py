"""Where things are and how the services run: environment variables MODESCAPE_..., listed by `modescape settings`.

Nothing here changes a result; what does belongs in the experiment's spec. Read in app, jobs and cli only, then passed.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modescape.errors import ConfigurationError


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MODESCAPE_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "modescape",
        description="Folder of the embedded database, the queue and the artifacts.",
    )
    host: str = Field("127.0.0.1", description="Address the server listens on; beyond loopback a token is required.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the API and the pages.")
    token: SecretStr | None = Field(
        None, description="Secret of the API and the sign-in page; required beyond loopback."
    )
    allowed_hosts: str = Field("", description="Further host names the server answers to, separated by commas.")
    database_url: str | None = Field(None, description="SQLAlchemy URL; empty means SQLite in the home folder.")
    broker_url: str | None = Field(
        None, description="Celery broker, such as redis://host:6379/0; empty means a folder in home."
    )
    artifacts: Path | None = Field(None, description="Folder of arrays and weights; empty means `artifacts` in home.")
    data: str = Field("", description="Folders to look for data sets in, separated by colons, before the usual places.")
    data_roots: str = Field(
        "", description="Folders users may register data from, separated by colons; empty: the data folders."
    )
    workers: int | None = Field(
        None, ge=0, le=256, description="Workers `modescape up` starts; empty means one per core."
    )
    device: str = Field("auto", description="auto, cpu or cuda.")
    lease_seconds: float = Field(30.0, gt=0.5, le=3600, description="How long a silent worker keeps its stage.")
    plugins: str = Field(
        "", description="Modules with your own datasets, architectures and methods, separated by commas."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @cached_property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'modescape.db'}"

    @cached_property
    def broker(self) -> str:
        return self.broker_url or "filesystem://"

    @cached_property
    def artifact_folder(self) -> Path:
        return self.artifacts or self.home / "artifacts"

    @cached_property
    def data_folders(self) -> tuple[Path, ...]:
        """Where data sets are looked for, in order; the first is where `modescape data fetch` puts them."""
        own = tuple(Path(folder).expanduser() for folder in self.data.split(":") if folder)
        return (*own, self.home / "data", Path("/usr/share/datasets"))

    @cached_property
    def registration_roots(self) -> tuple[Path, ...]:
        own = tuple(Path(folder).expanduser() for folder in self.data_roots.split(":") if folder)
        return own or self.data_folders[:-1]

    @cached_property
    def plugin_modules(self) -> tuple[str, ...]:
        return tuple(module.strip() for module in self.plugins.split(",") if module.strip())

    @property
    def is_loopback(self) -> bool:
        return self.host in ("127.0.0.1", "::1", "localhost")


def read_settings() -> Settings:
    """The settings of this process's environment. Raises ConfigurationError naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"MODESCAPE_{str(item['loc'][0]).upper()}: {item['msg']}, got {item['input']!r}" for item in error.errors()
        ]
        raise ConfigurationError("; ".join(wrong)) from None
