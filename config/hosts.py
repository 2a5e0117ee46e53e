"""Which hosts are near."""

import ipaddress


def private(host: str) -> bool:
    """Whether such a host is reached without the public internet: loopback, a private address, a container's name."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".internal", ".local"))
