from __future__ import annotations

from pathlib import Path

from qefleet.workspace.index_settings import IndexSettings


def test_nothing_set_means_pypi(tmp_path: Path) -> None:
    """Without settings the public index is used."""
    settings = IndexSettings.from_environment({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"})

    assert settings == IndexSettings(hosts=frozenset({"pypi.org", "files.pythonhosted.org"}))


def test_uvs_variables_go_before_pips(tmp_path: Path) -> None:
    """What uv itself would read is passed on as it is."""
    settings = IndexSettings.from_environment(
        {
            "HOME": str(tmp_path),
            "PIP_CONFIG_FILE": "/dev/null",
            "UV_DEFAULT_INDEX": "corp=https://user:pw@index.example.org/simple",
            "PIP_INDEX_URL": "https://other.example.org/simple",
            "SECRET": "x",
        }
    )

    assert settings.environment == {"UV_DEFAULT_INDEX": "corp=https://user:pw@index.example.org/simple"}
    assert settings.simple_url == "https://user:pw@index.example.org/simple"
    assert "index.example.org" in settings.hosts


def test_pips_configuration_is_understood(tmp_path: Path) -> None:
    """An index and a certificate that only pip knows reach uv too."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    folder = tmp_path / "wheels"
    (folder / "simple").mkdir(parents=True)
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = https://mirror.example.org/simple\nextra-index-url =\n  file://{folder}/simple\n"
        f"cert = {bundle}\n"
    )

    settings = IndexSettings.from_environment(
        {"HOME": "/nowhere", "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    )

    assert settings.simple_url == "https://mirror.example.org/simple"
    assert settings.environment["SSL_CERT_FILE"] == str(bundle)
    assert settings.environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert {bundle, folder} <= set(settings.paths)


def test_only_an_http_proxy_can_be_passed_through() -> None:
    """The proxy of this machine is found by its usual variable."""
    environment = {"HOME": "/nowhere", "PIP_CONFIG_FILE": "/dev/null"}

    http = IndexSettings.from_environment(environment | {"HTTPS_PROXY": "http://proxy:3128"})
    socks = IndexSettings.from_environment(environment | {"HTTPS_PROXY": "socks5://proxy:1080"})

    assert (http.upstream_proxy, socks.upstream_proxy) == ("http://proxy:3128", None)
