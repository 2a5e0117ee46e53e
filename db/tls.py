"""TLS to the database, as its address specifies it."""

import ssl
from collections.abc import Mapping
from typing import Literal

import structlog

from config.hosts import private
from config.logs import once
from db.errors import BadDsn

_log = structlog.get_logger(__name__)

VERIFYING = ("require", "verify-ca", "verify-full")
_MODES = ("disable", "allow", "prefer", "no-verify", *VERIFYING)
_YES_OR_NO = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
"""Values of `ssl` besides modes: those of node-postgres and JDBC."""
_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1_2,  # older versions are never used
    "TLSv1.1": ssl.TLSVersion.TLSv1_2,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def wanted(host: str, query: Mapping[str, str]) -> "ssl.SSLContext | Literal['prefer', False]":
    """Return the `ssl` argument for asyncpg. Warns if a machine in between could listen. Raises `BadDsn`."""
    if host.startswith("/"):
        return False
    mode = _mode(host, query)
    if mode not in VERIFYING and not private(host):
        told = "whoever is in between can read and change what the database says"
        once(_log, "warning", told, host=host, sslmode=mode)
    if mode == "disable":
        return False
    if query.get("sslnegotiation", "postgres") not in ("postgres", "direct"):
        raise BadDsn("sslnegotiation is postgres or direct")
    if mode in ("allow", "prefer"):
        _refuse_what_needs_tls(mode, query)
        return "prefer"
    context = unverified() if mode == "no-verify" else _verifying(mode, query.get("sslrootcert", "system"))
    if certificate := query.get("sslcert"):
        _load_certificate(context, certificate, query.get("sslkey"))
    version = query.get("ssl_min_protocol_version", "TLSv1.2")
    if version not in _VERSIONS:
        raise BadDsn(f"ssl_min_protocol_version {version!r} is not one of {', '.join(_VERSIONS)}")
    context.minimum_version = _VERSIONS[version]
    return context


def unverified() -> ssl.SSLContext:
    """Return a context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _speak_postgres(context)
    return context


def _mode(host: str, query: Mapping[str, str]) -> str:
    said = query.get("ssl", "")
    default = "verify-full" if "sslrootcert" in query or not private(host) else "prefer"
    mode = query.get("sslmode") or _YES_OR_NO.get(said.lower(), said) or default
    if mode not in _MODES:
        raise BadDsn(f"sslmode or ssl is {mode!r}, not one of {', '.join(_MODES)}")
    return mode


def _refuse_what_needs_tls(mode: str, query: Mapping[str, str]) -> None:
    """Raise `BadDsn` for options that would be ignored if the server had no TLS, which `mode` permits."""
    for name in ("sslcert", "sslkey", "ssl_min_protocol_version", "sslnegotiation"):
        if query.get(name, "postgres") != "postgres":
            raise BadDsn(f"{name} goes with sslmode=require, verify-ca, verify-full or no-verify, not with {mode}")


def _verifying(mode: str, root: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if root == "system" else root)
    except OSError as error:
        raise BadDsn(f"sslrootcert={root} can't be used: {error.strerror or error}") from None
    context.check_hostname = mode != "verify-ca"
    _speak_postgres(context)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        files = f"sslcert={certificate}" + f", sslkey={key}" * bool(key)
        raise BadDsn(f"{files} can't be used: {error.strerror or error}") from None


def _speak_postgres(context: ssl.SSLContext) -> None:
    """Name the protocol (ALPN): servers require it with sslnegotiation=direct."""
    context.set_alpn_protocols(["postgresql"])
