"""The public key of signed heads (docs/http-api.md, "Signed heads")."""

from fastapi import APIRouter, Request, Response

from api import examples
from api.audit_schemas import JwkSet
from api.openapi import answer
from api.responses import JSON
from api.routing import Route
from events.serialization import canonical

router = APIRouter(tags=["audit"], route_class=Route)


@router.get(
    "/.well-known/jwks.json",
    operation_id="getKeys",
    summary="The key that heads are signed with",
    response_model=JwkSet,
    response_description="A JWK Set (RFC 7517)",
    responses={200: answer(examples.KEYS)},
)
async def get_keys(request: Request) -> Response:
    """The public key of signed heads, to check them with. There is none if the service signs none."""
    signer = request.state.head_signer
    return Response(canonical({"keys": []} if signer is None else signer.jwks), media_type=JSON)
