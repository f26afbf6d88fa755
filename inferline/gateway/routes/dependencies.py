"""FastAPI dependencies: what the app has made for its routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from inferline.gateway.enrol.enrolments import Enrolments
from inferline.gateway.parts import GatewayParts

# They are async because FastAPI runs other functions in a thread.


async def _parts(request: Request) -> GatewayParts:
    parts: GatewayParts = request.app.parts
    return parts


async def _enrolments(request: Request) -> Enrolments:
    enrolments: Enrolments = request.app.enrolments
    return enrolments


Parts = Annotated[GatewayParts, Depends(_parts)]
ProviderEnrolments = Annotated[Enrolments, Depends(_enrolments)]
