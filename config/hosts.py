"""Which hosts are near."""

import ipaddress
import re

_NUMBER = re.compile(r"[0-9.]+|0x[0-9a-f.x]+", re.IGNORECASE)


def private(host: str) -> bool:
    """Whether such a host is reached without the public internet: loopback, a private address, a container's name."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        name = not _NUMBER.fullmatch(host)  # which a resolver may take for an address
        return name and ("." not in host or host.endswith((".localhost", ".internal", ".local")))
