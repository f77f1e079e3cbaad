"""The list of groups of replicas, and the page of one."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.auth import CurrentUser
from app.datasets import service as datasets
from app.db import ReadSession
from app.engines import registry
from app.groups import service as groups
from app.web import words
from app.web.pages import GroupsPage, ReplicasPage
from app.web.render import render
from app.wire.groups import GroupDetail
from app.wire.states import FINAL_STATES

router = APIRouter(include_in_schema=False)

GroupId = Annotated[int, Path(ge=1, lt=2**63)]

PER_PAGE = 50
DATASETS_TO_CHOOSE_FROM = 100


@router.get("/groups")
def show_groups(request: Request, _: CurrentUser, session: ReadSession, cursor: str | None = None) -> Response:
    """The groups, newest first."""
    found = groups.listed(session, cursor=cursor or None, limit=PER_PAGE)
    older = f"/groups?cursor={quote(found.next_cursor)}" if found.next_cursor else None
    return render(request, GroupsPage(groups=found.items, older=older))


@router.get("/groups/{group_id}")
def show_group(request: Request, _: CurrentUser, session: ReadSession, group_id: GroupId) -> Response:
    """One group of replicas."""
    group = groups.detail(session, groups.get(session, group_id))
    engine = registry.get(group.engine)
    page = ReplicasPage(
        group=group,
        headline=engine.headline() if engine else (),
        datasets=datasets.newest(session, DATASETS_TO_CHOOSE_FROM),
        offers=[(kind, task.title) for kind, task in engine.tasks.items() if task.on_data] if engine else (),
        board=board(group),
    )
    return render(request, page)


def board(group: GroupDetail) -> dict[str, Any]:
    """Return what the charts need to know."""
    return {
        "group": group.id,
        "final": set(group.states) <= FINAL_STATES,
        "replicas": [job.id for job in group.jobs],
        "words": words.panels(group.engine, (one.key for one in group.summary)),
    }
