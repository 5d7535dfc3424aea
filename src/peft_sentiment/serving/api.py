"""The service over HTTP: its routes, and how OpenAPI describes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from peft_sentiment import __version__
from peft_sentiment.serving.adapters import LoadedAdapter
from peft_sentiment.serving.gate import FACTS, Guard, Observer, build_refusal_response
from peft_sentiment.serving.refusals import Refusal, refuse_by_fault, refuse_for_now
from peft_sentiment.serving.schemas import (
    AdapterDescription,
    AdapterList,
    ErrorBody,
    Health,
    LoadRequest,
    PredictAnswer,
    PredictRequest,
    describe_limits,
)
from peft_sentiment.serving.service import Service

MOST_FAULTS = 5
"""Malformed fields that one answer names."""

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"

REASONS = {
    400: "The body is no JSON.",
    401: "A key is needed.",
    403: "Adapters are fixed, or the folder lies outside.",
    404: "There is no such adapter or folder.",
    408: "The body came too slowly.",
    409: "The name is taken, or there are too many adapters.",
    413: "The body, a text or their number is too large.",
    415: "The body is not application/json.",
    422: "The body is not of the form described here.",
    500: "Something went wrong here.",
    501: "The server lacks what explanations need.",
    503: "Too much is under way; Retry-After says when to come back.",
    504: "It took too long.",
}


def build_app(service: Service) -> ASGIApp:
    """Return the service as an ASGI application."""
    app = FastAPI(
        title="PEFT Sentiment",
        version=__version__,
        summary="Labels texts with fine-tuned adapters over one encoder.",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=_build_lifespan(service),
        separate_input_output_schemas=False,
        redirect_slashes=False,
    )
    app.exception_handler(Refusal)(answer_refusal)
    app.exception_handler(RequestValidationError)(answer_malformed)
    app.exception_handler(HTTPException)(answer_http_error)
    app.exception_handler(Exception)(answer_fault)
    secured = [Depends(HTTPBearer(auto_error=False))] if len(service.keys) else []
    add_state_routes(app, service, secured)
    add_predict_route(app, service, secured)
    add_adapter_routes(app, service, secured)
    describe_limits(app.openapi(), service.settings)
    observed = Observer(Guard(app, service), service)
    if not service.settings.cors_origins:
        return observed
    # Outermost, so that a page can read what `Observer` itself answers, too.
    return CORSMiddleware(
        observed,
        allow_origins=service.settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["X-Request-ID", "Retry-After"],
    )


def _build_lifespan(service: Service) -> Any:  # noqa: ANN401 - FastAPI's own type
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    return lifespan


def add_state_routes(app: FastAPI, service: Service, secured: list[Any]) -> None:
    """Add what tells others how the service is."""

    @app.get("/healthz", tags=["state"], responses=describe_errors(500))
    async def live() -> Health:
        """Tell that the process lives."""
        return Health(status="alive")

    @app.get("/readyz", tags=["state"], responses=describe_errors(503))
    async def ready() -> Health:
        """Tell whether requests can be answered: an adapter is loaded, and it does not stop."""
        if service.is_draining:
            raise refuse_for_now("draining", "The service stops.", 1)
        if not len(service.registry):
            raise refuse_for_now("no_adapter", "No adapter is loaded.", 1)
        return Health(status="ready")

    @app.get(
        "/metrics",
        tags=["state"],
        dependencies=secured,
        response_class=Response,
        responses={
            200: {"content": {METRICS_TYPE: {"schema": {"type": "string"}}}},
            **describe_errors(401, 503),
        },
    )
    async def metrics() -> Response:
        """Return the metrics in Prometheus' text form."""
        return Response(service.metrics.render(), media_type=METRICS_TYPE)


def add_predict_route(app: FastAPI, service: Service, secured: list[Any]) -> None:
    """Add what labels texts."""

    @app.post(
        "/v1/predict",
        tags=["predict"],
        dependencies=[Depends(require_json), *secured],
        responses=describe_errors(400, 401, 404, 408, 413, 415, 422, 500, 501, 503, 504),
    )
    async def predict(body: PredictRequest, request: Request) -> PredictAnswer:
        """Label one text or several by one adapter."""
        return await service.predict(body, request.scope[FACTS])


def add_adapter_routes(app: FastAPI, service: Service, secured: list[Any]) -> None:
    """Add what lists, loads and removes adapters."""

    @app.get(
        "/v1/adapters", tags=["adapters"], dependencies=secured, responses=describe_errors(401, 503)
    )
    async def list_adapters() -> AdapterList:
        """List the adapters in memory."""
        adapters = service.registry.list_adapters()
        return AdapterList(adapters=[describe_adapter(a, a is adapters[0]) for a in adapters])

    @app.post(
        "/v1/adapters",
        tags=["adapters"],
        status_code=201,
        dependencies=[Depends(require_json), *secured],
        responses=describe_errors(400, 401, 403, 404, 408, 409, 413, 415, 422, 503, 504),
    )
    async def load_adapter(body: LoadRequest, request: Request) -> AdapterDescription:
        """Load an adapter from the folder that was fixed at start."""
        loaded = await service.load_adapter(body.name, body.folder)
        request.scope[FACTS]["adapter"] = loaded.name
        return describe_adapter(loaded, service.registry.get(None) is loaded)

    @app.delete(
        "/v1/adapters/{name}",
        tags=["adapters"],
        status_code=204,
        dependencies=secured,
        responses=describe_errors(401, 403, 404, 422, 503),
    )
    async def remove_adapter(name: str, request: Request) -> None:
        """Remove an adapter from memory; its folder stays."""
        service.remove_adapter(name)
        request.scope[FACTS]["adapter"] = name


def describe_adapter(loaded: LoadedAdapter, is_default: bool) -> AdapterDescription:
    """Describe an adapter in memory."""
    calibration = loaded.served.calibration
    return AdapterDescription(
        name=loaded.name,
        folder=loaded.folder,
        form=loaded.form,
        labels=list(loaded.served.label_names),
        is_default=is_default,
        temperature=1.0 if calibration is None else calibration.temperature,
        threshold=None if calibration is None else calibration.threshold,
    )


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route for OpenAPI."""
    return {status: {"model": ErrorBody, "description": REASONS[status]} for status in statuses}


async def require_json(request: Request) -> None:
    """Refuse a body of another type, which a browser sends to strangers without asking them.

    Raises:
        Refusal: it is.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = "The body must be JSON, and Content-Type say so: application/json."
        raise Refusal(415, "not_json", message)


async def answer_refusal(request: Request, refusal: Exception) -> JSONResponse:
    """Answer what was refused."""
    assert isinstance(refusal, Refusal)  # noqa: S101 - registered for these alone
    return build_refusal_response(refusal, request.scope)


async def answer_malformed(request: Request, error: Exception) -> JSONResponse:
    """Answer a body that is no JSON or not of the form that is described; without quoting it."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for these alone
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        refusal = Refusal(400, "malformed_json", REASONS[400])
    else:
        told = [f"{_describe_place(fault['loc'])}: {fault['msg']}" for fault in faults]
        refusal = Refusal(422, "malformed_request", "; ".join(told[:MOST_FAULTS]))
    return build_refusal_response(refusal, request.scope)


async def answer_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer an unknown place, a wrong method, or a body that can't be decoded."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for these alone
    codes = {400: "malformed_json", 404: "unknown_place", 405: "wrong_method"}
    code = codes.get(error.status_code, "http_error")
    detail = REASONS[400] if error.status_code == 400 else f"{error.detail}."
    refusal = Refusal(error.status_code, code, detail, error.headers)
    return build_refusal_response(refusal, request.scope)


async def answer_fault(request: Request, _error: Exception) -> JSONResponse:
    """Answer where something went wrong here; the `Observer` tells the log what."""
    return build_refusal_response(refuse_by_fault(), request.scope)


def _describe_place(parts: tuple[str | int, ...]) -> str:
    """Return where in a body something is; a name that the sender has made up is not quoted."""
    known = {"body", "path", *PredictRequest.model_fields, *LoadRequest.model_fields}
    return ".".join(str(part) if isinstance(part, int) or part in known else "?" for part in parts)
