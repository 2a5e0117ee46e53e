"""Poolers in transaction mode, recognised by the database's address."""

import re

_NAMES = re.compile(r"(?:^|[./-])(pgbouncer|pgcat|pgdog|odyssey|supavisor|pooler|pooled)(?=\d*(?:[.-]|$))")
"""Poolers' names in host names: those of containers and Kubernetes operators, of Neon (ep-…-pooler), Prisma
(pooled.db.prisma.io), Fly.
"""
_RDS_PROXY = re.compile(r"\.proxy-[a-z0-9]+\.[a-z0-9-]+\.rds\.amazonaws\.com$")
_PORTS = {
    6432: "",  # PgBouncer's own, and that of pgcat, PgDog and Odyssey; Azure, Google Cloud, PlanetScale
    6543: "",  # Supabase's, hosted or not
    25061: "",  # DigitalOcean's
    5431: ".postgresbridge.com",  # Crunchy Bridge's; elsewhere it may be a second Postgres
}
"""Ports of poolers, each with the end that the host's name must have."""


def recognised(host: str, port: int) -> str | None:
    """Return the sign of a pooler in transaction mode, as a phrase; None if there is no sign. It is a guess."""
    host = host.lower()
    if port in _PORTS and host.endswith(_PORTS[port]):
        return f"port {port}"
    if host.endswith(".pooler.supabase.com"):  # at any other port, in session mode
        return None
    if found := _NAMES.search(host):
        return f"{found[1]} in the host's name"
    return "an RDS proxy's name" if _RDS_PROXY.search(host) else None


def known_direct(host: str) -> bool:
    """Say whether the host has no pooler behind it, though a proxy may be: Neon's hosts, except those with -pooler."""
    return host.lower().endswith(".neon.tech")
