"""TLS to the database, as its address specifies it."""

import ssl
from pathlib import Path
from typing import Literal

import structlog

from config.hosts import private
from config.logs import once
from db.options import BadDsn, Options

_log = structlog.get_logger(__name__)

_FILES = ("sslrootcert", "sslcert", "sslkey")
_VERIFYING = ("require", "verify-ca", "verify-full")
_MODES = ("disable", "allow", "prefer", "no-verify", *_VERIFYING)
_YES_OR_NO = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
"""Values of `ssl` besides modes: those of node-postgres and JDBC."""
_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1_2,  # older versions are never used
    "TLSv1.1": ssl.TLSVersion.TLSv1_2,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def wanted(host: str, query: Options) -> "ssl.SSLContext | Literal['prefer', False]":
    """Return the `ssl` argument for asyncpg. Warns if a machine in between could listen. Raises `BadDsn`."""
    if host.startswith("/"):
        return False
    mode = _mode(host, query)
    if mode not in _VERIFYING and not private(host):
        told = "whoever is in between can read and change what the database says"
        once(_log, "warning", told, host=host, sslmode=mode)
    if mode == "disable":
        return False
    if query.get("sslnegotiation", "postgres") not in ("postgres", "direct"):
        raise BadDsn("sslnegotiation is postgres or direct")
    if mode in ("allow", "prefer"):
        _refuse_what_needs_tls(mode, query)
        return "prefer"
    context = unverified() if mode == "no-verify" else _verifying(mode, query)
    _load_certificate(context, query)
    version = query.get("ssl_min_protocol_version", "TLSv1.2")
    if version not in _VERSIONS:
        raise BadDsn(f"ssl_min_protocol_version {version!r} is not one of {', '.join(_VERSIONS)}")
    context.minimum_version = _VERSIONS[version]
    return context


def _refuse_what_needs_tls(mode: str, query: Options) -> None:
    """Raise `BadDsn` for options that would be ignored if the server had no TLS, which `mode` permits."""
    for name in ("sslcert", "sslkey", "ssl_min_protocol_version", "sslnegotiation"):
        if name in query and query[name] != "postgres":
            raise BadDsn(f"{name} goes with sslmode=require, verify-ca, verify-full or no-verify, not with {mode}")


def unverified() -> ssl.SSLContext:
    """Return a context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _speak_postgres(context)
    return context


def _mode(host: str, query: Options) -> str:
    accept = query.get("sslaccept", "strict")
    if accept not in ("strict", "accept_invalid_certs"):
        raise BadDsn("sslaccept is strict or accept_invalid_certs")
    said = query.get("ssl", "")
    mode = query.get("sslmode") or _YES_OR_NO.get(said.lower(), said)
    if not mode and "sslaccept" in query:
        mode = "require"
    if not mode:
        mode = "verify-full" if "sslrootcert" in query or not private(host) else "prefer"
    if mode not in _MODES:
        given = "sslmode" if "sslmode" in query else "ssl"
        raise BadDsn(f"{given} {mode!r} is not one of {', '.join(_MODES)}{', true, false' if given == 'ssl' else ''}")
    if accept == "accept_invalid_certs" and mode in _VERIFYING:
        if mode != "require":
            raise BadDsn(f"sslmode={mode} and sslaccept=accept_invalid_certs contradict each other: leave one out")
        return "no-verify"
    return mode


def _verifying(mode: str, query: Options) -> ssl.SSLContext:
    root = query.get("sslrootcert", "system")
    if root != "system":
        _check_readable("sslrootcert", root)
    try:
        context = ssl.create_default_context(cafile=None if root == "system" else root)
    except (OSError, ssl.SSLError) as error:
        raise BadDsn(f"sslrootcert is no certificate: {error}") from None
    context.check_hostname = mode != "verify-ca"
    _speak_postgres(context)
    return context


def _load_certificate(context: ssl.SSLContext, query: Options) -> None:
    """Load our own certificate, if the address names one. Raises `BadDsn`."""
    for name in ("sslcert", "sslkey"):
        if name in query:
            _check_readable(name, query[name])
    if "sslcert" in query:
        try:
            context.load_cert_chain(query["sslcert"], query.get("sslkey"))
        except (OSError, ssl.SSLError) as error:
            raise BadDsn(f"sslcert or sslkey is no certificate or key: {error}") from None


def _check_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise BadDsn(f"{name} {path!r} can't be read: {error.strerror or error}") from None


def _speak_postgres(context: ssl.SSLContext) -> None:
    """Name the protocol (ALPN): servers require it with sslnegotiation=direct."""
    context.set_alpn_protocols(["postgresql"])
