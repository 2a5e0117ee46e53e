"""HTTP clients for other servers, with the environment's proxies and trusted authorities."""

import os
import ssl
from urllib.request import getproxies

import httpx2

from config.authorities import check_authorities
from config.errors import BadSettings


def client(url: str) -> httpx2.AsyncClient:
    """Return a client for one URL that is seldom requested. Raises `BadSettings`, naming the unusable variable."""
    # The next request is far off, and Node closes an idle connection after seconds.
    limits = httpx2.Limits(max_keepalive_connections=0)
    if not url.startswith("https:"):
        # http is for internal addresses, which the proxy to the internet doesn't reach.
        return httpx2.AsyncClient(limits=limits, trust_env=False)
    check_authorities()
    authorities = httpx2.create_ssl_context()
    _check_proxies(authorities)
    return httpx2.AsyncClient(limits=limits, verify=authorities)


def _check_proxies(authorities: ssl.SSLContext) -> None:
    for scheme, proxy in getproxies().items():
        if scheme not in ("http", "https", "all") or not proxy:
            continue
        name = _variable(f"{scheme}_proxy")
        try:
            url = httpx2.URL(proxy if "://" in proxy else f"http://{proxy}")
            httpx2.AsyncHTTPTransport(proxy=url, verify=authorities)
        except ImportError as error:  # the package for SOCKS is missing
            raise BadSettings(
                f"{name}: a SOCKS proxy can't be used; set HTTPS_PROXY=http://… and unset {name}, or unset it alone"
            ) from error
        except (ValueError, httpx2.InvalidURL) as error:
            raise BadSettings(f"{name}: {_NO_PROXY}") from error
        if not url.host or (url.port or 0) > _LARGEST_PORT:
            raise BadSettings(f"{name}: {_NO_PROXY}")


_NO_PROXY = "is no proxy that can be used; write http://host:port, or unset it"
_LARGEST_PORT = 65535


def _variable(name: str) -> str:
    """Return the variable's name as the environment has it; the lower-case one counts if there are two."""
    return name if name in os.environ else name.upper()
