"""The application: lifespan, routers, background work. The only module that knows everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.orm import sessionmaker

from app import apart, failures, keys, queue, system, worker_api
from app.artifacts.routes import worker_router as blob_router
from app.artifacts.store import open_store
from app.artifacts.upload_routes import router as upload_router
from app.datasets.routes import router as dataset_router
from app.db import make_engine, transaction
from app.fleet.routes import router as fleet_router
from app.fleet.upkeep import Upkeep
from app.groups.routes import router as group_router
from app.jobs.comparison_routes import router as comparison_router
from app.jobs.control_routes import router as control_router
from app.jobs.measuring_routes import router as measuring_router
from app.jobs.metrics_routes import router as metrics_router
from app.jobs.retention_routes import router as retention_router
from app.jobs.routes import router as job_router
from app.jobs.stream import Hub
from app.jobs.stream_routes import router as stream_router
from app.maintenance.routes import router as maintenance_router
from app.models.routes import router as model_router
from app.settings import Settings, get_settings
from app.shutdown import before_shutdown
from app.web.routes import error_page
from app.web.routes import router as web_router

ROUTERS = (
    worker_api.router,
    system.router,
    job_router,
    comparison_router,
    control_router,
    measuring_router,
    stream_router,
    metrics_router,
    group_router,
    retention_router,
    upload_router,
    dataset_router,
    model_router,
    fleet_router,
    maintenance_router,
    blob_router,
    web_router,
)
"""Every route of the service, in the order in which they are tried: those first that are asked most."""


def create_app(settings: Settings | None = None, *, background: bool = True) -> FastAPI:
    """Return the application. `background=False` leaves reaper and reconciler to the caller: tests call them.

    Its settings are `app.state.settings`, read each time that it starts.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        settings: Settings = app.state.settings
        engine = make_engine(settings.effective_database_url)
        app.state.secret = keys.secret_key(settings)
        app.state.sessions = sessionmaker(engine, expire_on_commit=False)
        app.state.doorbell = queue.Doorbell(settings.effective_redis_url)
        queue.connect(app.state.sessions, app.state.doorbell)
        app.state.blobs = open_store(settings)
        app.state.blobs.clean_up()
        with transaction(app.state.sessions) as session:
            keys.ensure_first_tokens(session, settings)
        upkeep = Upkeep(app.state.sessions, settings) if background else None
        app.state.apart = apart.places()
        app.state.verification = None
        app.state.hub = Hub(app.state.sessions)
        with before_shutdown(app.state.hub.close):
            yield
        await app.state.hub.closed()
        if app.state.verification is not None:
            app.state.verification.close()
        if upkeep is not None:
            upkeep.close()
        app.state.doorbell.close()
        engine.dispose()

    app = FastAPI(
        title="Cairn",
        description="Training jobs you can retrace.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = settings or get_settings()
    app.state.error_page = error_page
    failures.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
