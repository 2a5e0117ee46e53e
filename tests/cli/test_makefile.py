"""The certificates that the Makefile has uv trust."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOW = "show: ; @echo $$UV_SYSTEM_CERTS,$$UV_NATIVE_TLS"
STORES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "true,true" if any(map(os.path.exists, STORES)) else ","),
        ({"UV_SYSTEM_CERTS": "false"}, "false,"),
        ({"UV_NATIVE_TLS": "false"}, ",false"),
        ({"UV_SYSTEM_CERTS": "true"}, "true,"),
    ],
)
def test_uv_trusts_whom_the_system_trusts_unless_told_otherwise(given: dict[str, str], said: str) -> None:
    outside = {name: value for name, value in os.environ.items() if name not in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS")}
    make = ["make", "--silent", f"--eval={SHOW}", "show"]
    shown = subprocess.run(make, cwd=ROOT, env={**outside, **given}, capture_output=True, text=True, check=True)
    assert shown.stdout == f"{said}\n"
