"""Where packages come from: what the user's environment and pip's configuration say about it."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

_PYPI = "https://pypi.org/simple"
_PASSED_ON = (
    "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
    "UV_INDEX_STRATEGY", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_HTTP_TIMEOUT",
    "UV_EXCLUDE_NEWER", "UV_PRERELEASE",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


@dataclass(frozen=True)
class IndexSettings:
    """How the step that prepares an environment reaches the package index."""

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables for uv, inside the sandbox."""
    simple_url: str = _PYPI
    """The first index's simple API."""
    paths: tuple[Path, ...] = ()
    """Files and folders of this machine that the settings name: certificates, folders of wheels."""
    hosts: frozenset[str] = frozenset()
    """Hosts of the named indexes, which may be in a private network."""
    upstream_proxy: str | None = None
    """The proxy behind which this machine itself is."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> IndexSettings:
        """Read the variables of uv, pip and TLS, and pip's configuration files."""
        settings = {name: environ[name] for name in _PASSED_ON if environ.get(name)}
        pip = _pip_settings(environ)
        if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & settings.keys() and (url := pip.get("index-url")):
            settings["UV_DEFAULT_INDEX"] = url
        if not {"UV_INDEX", "UV_EXTRA_INDEX_URL"} & settings.keys() and (urls := pip.get("extra-index-url")):
            settings["UV_INDEX"] = " ".join(urls.split())
            settings.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip reads this setting
        if "SSL_CERT_FILE" not in settings and (
            bundle := pip.get("cert") or environ.get("REQUESTS_CA_BUNDLE")
        ):
            settings["SSL_CERT_FILE"] = bundle
        simple = settings.get("UV_DEFAULT_INDEX") or settings.get("UV_INDEX_URL") or _PYPI
        words = [word for value in settings.values() for word in value.replace(",", " ").split()]
        urls = [
            urlsplit(word.partition("=")[2] if "=" in word.partition("://")[0] else word) for word in words
        ]
        local = [
            unquote(url.path).rstrip("/")
            for url in urls
            if url.scheme in {"", "file"} and url.path.startswith("/")
        ]
        # The pages of an index in a folder name files beside it.
        paths = {path.removesuffix("/simple") for path in local}
        proxy = environ.get("HTTPS_PROXY") or environ.get("https_proxy") or environ.get("ALL_PROXY")
        return cls(
            environment=settings,
            simple_url=simple.partition("=")[2] if "=" in simple.partition("://")[0] else simple,
            paths=tuple(Path(path) for path in sorted(paths) if Path(path).exists()),
            # A company's name server may send these two to a mirror in its own network.
            hosts=frozenset(
                {"pypi.org", "files.pythonhosted.org", *(u.hostname for u in urls if u.hostname)}
            ),
            upstream_proxy=proxy if proxy and proxy.startswith("http://") else None,
        )


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    home = Path(environ.get("HOME", "/"))
    configured = Path(environ.get("XDG_CONFIG_HOME", home / ".config")) / "pip/pip.conf"
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", configured]
    if named := environ.get("PIP_CONFIG_FILE"):
        files = [] if named == os.devnull else [*files, Path(named)]
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read([file for file in files if os.access(file, os.R_OK)], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}  # pip itself would stop here; what it says is better said by pip
    found = {
        name: parser.get(section, name)
        for section in ("global", "install")
        for name in ("index-url", "extra-index-url", "cert")
        if parser.has_option(section, name)
    }
    for name in ("index-url", "extra-index-url", "cert"):
        if value := environ.get("PIP_" + name.replace("-", "_").upper()):
            found[name] = value
    return found
