"""Test for hosts that are reached without the public internet."""

import ipaddress
import re

_NUMBER = re.compile(r"[0-9.]+|0x[0-9a-f.x]+", re.IGNORECASE)


def private(host: str) -> bool:
    """Say whether the host is reached without the public internet: loopback, a private address, a container's name."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        name = not _NUMBER.fullmatch(host)  # a resolver may take a number for an address
        return name and ("." not in host or host.endswith((".localhost", ".internal", ".local")))
