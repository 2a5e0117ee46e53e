"""Poolers in transaction mode, as far as an address tells that one is there."""

import re

_NAMES = re.compile(r"(?:^|[./-])(pgbouncer|pgcat|pgdog|odyssey|supavisor|pooler|pooled)(?=\d*(?:[.-]|$))")
"""In host names: of containers and Kubernetes operators, of Neon (ep-…-pooler), Prisma (pooled.db.prisma.io), Fly."""
_RDS_PROXY = re.compile(r"\.proxy-[a-z0-9]+\.[a-z0-9-]+\.rds\.amazonaws\.com$")
_PORTS = {
    6432: "",  # PgBouncer's own, and that of pgcat, PgDog and Odyssey; Azure, Google Cloud, PlanetScale
    6543: "",  # Supabase's, hosted or not
    25061: "",  # DigitalOcean's
    5431: ".postgresbridge.com",  # Crunchy Bridge's; elsewhere it may be a second Postgres
}
"""Ports of poolers, and how the host's name ends there."""


def recognised(host: str, port: int) -> str | None:
    """Return what tells that there is a pooler in transaction mode, if anything does: it's a guess."""
    host = host.lower()
    if port in _PORTS and host.endswith(_PORTS[port]):
        return f"port {port}"
    if host.endswith(".pooler.supabase.com"):  # at any other port, in session mode
        return None
    if found := _NAMES.search(host):
        return f"{found[1]} in the host's name"
    return "an RDS proxy's name" if _RDS_PROXY.search(host) else None


def known_direct(host: str) -> bool:
    """Whether there is no pooler behind such a host, though a proxy may be: Neon's, but for those with -pooler."""
    return host.lower().endswith(".neon.tech")
