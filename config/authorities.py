"""Check of OpenSSL's variables for trusted authorities: it silently ignores those that name nothing."""

import os
import ssl
from pathlib import Path

from config.errors import BadSettings


def check_authorities() -> None:
    """Raise `BadSettings` if a variable names an unusable file or folder."""
    if log := os.environ.get("SSLKEYLOGFILE"):
        try:
            with Path(log).open("ab"):
                pass
        except OSError as error:
            raise BadSettings(f"SSLKEYLOGFILE: {log} can't be written: {error.strerror}; unset it") from error
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:  # ssl.SSLError is one
            raise BadSettings(
                f"SSL_CERT_FILE: {file} can't be read as certificates: {_reason(error)}; "
                "name a file of certificates in PEM, or unset it"
            ) from error
    elif (folders := os.environ.get("SSL_CERT_DIR")) and not any(map(os.path.isdir, folders.split(os.pathsep))):
        raise BadSettings(f"SSL_CERT_DIR: {folders} is no folder; name one of certificates, or unset it")


def _reason(error: OSError) -> str:
    return "it holds none" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
