"""The dashboard over HTTP: signing in, pages, refusals, headers."""

import json
import re
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app import auth
from app.db import transaction
from app.engines.registry import known
from app.jobs.timeline import tell
from app.keys import token_file
from app.settings import Settings
from app.tables import Attempt, Job, Token
from app.web import bundle
from app.web.session_routes import local_path
from tests.app.web.seeding import HOSTILE, Seeded, SeededGroup, config

PATHS = (
    "/jobs",
    "/datasets",
    "/groups",
    "/datasets/water@2",
    "/datasets/water",
    "/models",
    "/models/water@1",
    "/models/water",
    "/workers",
    "/submit",
)


def csrf_of(html: str) -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', html)
    assert found is not None
    return found[1]


def login_code(app: FastAPI) -> str:
    with transaction(app.state.sessions) as session:
        token_id = session.query(Token.id).filter(Token.scope == "user").scalar()
        return auth.make_login_code(session, token_id)[0]


@pytest.mark.parametrize("path", PATHS)
def test_pages_ask_strangers_to_sign_in_and_bring_them_back(assets: None, anonymous: TestClient, path: str) -> None:
    answer = anonymous.get(f"{path}?x=1", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/login?next={path.replace('/', '%2F').replace('@', '%40')}%3Fx%3D1"


def test_a_refresh_without_a_session_takes_the_whole_page_to_the_login(assets: None, anonymous: TestClient) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/jobs/3?a=b"}
    answer = anonymous.get("/jobs/3", headers=headers)
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login?next=%2Fjobs%2F3%3Fa%3Db")


def test_a_login_link_works_once(assets: None, app: FastAPI, anonymous: TestClient) -> None:
    code = login_code(app)
    first = anonymous.get("/login", params={"code": code}, follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/jobs")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert anonymous.get("/jobs").status_code == 200
    second = anonymous.get("/login", params={"code": code}, follow_redirects=False)
    assert second.status_code == 401
    assert "was used or has expired" in second.text


def test_a_wrong_token_is_refused_on_the_page(assets: None, anonymous: TestClient) -> None:
    answer = anonymous.post("/login", data={"token": "cairn_user_wrong"}, follow_redirects=False)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert auth.SESSION_COOKIE not in anonymous.cookies


def test_a_worker_token_opens_no_dashboard(assets: None, anonymous: TestClient, settings: Settings) -> None:
    token = token_file(settings, "worker").read_text().strip()
    assert anonymous.post("/login", data={"token": token}, follow_redirects=False).status_code == 403


def test_a_form_on_another_site_signs_nobody_in(assets: None, anonymous: TestClient, settings: Settings) -> None:
    token = token_file(settings, "user").read_text().strip()
    headers = {"Sec-Fetch-Site": "cross-site"}
    answer = anonymous.post("/login", data={"token": token}, headers=headers, follow_redirects=False)
    assert answer.status_code == 403
    assert auth.SESSION_COOKIE not in anonymous.cookies


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/jobs/3?a=b", "/jobs/3?a=b"),
        ("//evil.example", "/jobs"),
        ("/\\evil.example", "/jobs"),
        ("https://evil.example", "/jobs"),
        ("/a\nb", "/jobs"),
        ("", "/jobs"),
    ],
)
def test_signing_in_leads_nowhere_else(path: str, local: str) -> None:
    assert local_path(path) == local


def test_signing_out_needs_the_csrf_token_and_ends_the_session(browser_client: TestClient) -> None:
    assert browser_client.post("/logout", follow_redirects=False).status_code == 403
    html = browser_client.get("/jobs").text
    answer = browser_client.post("/logout", data={"csrf_token": csrf_of(html)}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert browser_client.get("/jobs", follow_redirects=False).status_code == 303


def test_every_page_opens(browser_client: TestClient, seeded: Seeded, ensemble: SeededGroup) -> None:
    job_paths = [
        f"/jobs/{job}{tail}"
        for job in (*vars(seeded).values(), ensemble.replica, ensemble.deviation)
        for tail in ("", "/config", "/transfer", "/seeds", "/log", "/history")
    ]
    for path in (
        *PATHS,
        *job_paths,
        f"/groups/{ensemble.group}",
        f"/submit?from={seeded.completed}",
        "/submit?base=water@1",
        f"/jobs/{seeded.finetuned}/diff/{seeded.hostile}",
        "/login",
        "/jobs?state=failed&q=high&tag=scan",
    ):
        answer = browser_client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.text[:500]}"
        assert HOSTILE not in answer.text, path


def test_an_empty_server_teaches_the_first_submission(browser_client: TestClient) -> None:
    html = browser_client.get("/jobs").text
    assert "No jobs yet" in html
    assert "cairn submit input.json" in html
    assert "No groups yet" in browser_client.get("/groups").text
    assert "No datasets yet" in browser_client.get("/datasets").text
    assert "No worker has reported" in browser_client.get("/workers").text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("state=failed&state=cancelled", ["water-high-lr", "water-too-slow"]),
        ("q=SE-ATTEN", ["water-se-atten-long-run"]),
        ("tag=scan", ["water-high-lr"]),
        ("where=base:descriptor.sel", ["water-finer", "water-fine"]),
        ("where=rcut > 6; training.seed", ["water-finer", "water-fine"]),
        ("q=nothing-like-it", []),
    ],
)
def test_the_list_is_filtered(browser_client: TestClient, seeded: Seeded, query: str, names: list[str]) -> None:
    html = browser_client.get(f"/jobs?{query}").text
    found = re.findall(r'<a href="/jobs/\d+">([\w-]+)</a>', html)
    assert [name for name in found if "script" not in name] == names
    assert ("No job matches" in html) == (not names)


def test_a_failure_is_told_in_words_on_list_and_page(browser_client: TestClient, seeded: Seeded) -> None:
    for path in ("/jobs", f"/jobs/{seeded.failed}"):
        html = browser_client.get(path).text
        assert "The training left the finite numbers" in html
        assert "train/loss became nan at step 1873" in html


def test_a_page_shows_checkpoints_that_can_be_downloaded(browser_client: TestClient, seeded: Seeded) -> None:
    html = browser_client.get(f"/jobs/{seeded.completed}").text
    links = re.findall(r'href="(/api/v1/jobs/\d+/checkpoints/\d+/[^"]+)"', html)
    assert len(links) == 10
    answer = browser_client.get(links[0])
    assert answer.status_code == 200
    assert answer.content.startswith(links[0].rsplit("/", 1)[1].encode())


def test_a_group_shows_its_replicas_their_statistics_and_what_was_computed_from_them(
    browser_client: TestClient, ensemble: SeededGroup
) -> None:
    assert f'<a href="/groups/{ensemble.group}"' in browser_client.get("/groups").text
    html = browser_client.get(f"/groups/{ensemble.group}").text
    assert html.count('<progress class="completed"') == 3
    found = browser_client.get(f"/api/v1/groups/{ensemble.group}").json()
    summary = next(one for one in found["summary"] if one["key"] == "val/rmse_f")
    assert len(summary["outliers"]) == 1, "the last replica is three times as bad"
    assert html.count('title="An outlier among the replicas"') == sum(
        len(one["outliers"]) for one in found["summary"] if one["key"] != "lr"
    )
    assert f'<a href="/jobs/{ensemble.deviation}">' in html
    assert "Learning rate" not in html[html.index('id="final-values"') :]
    for path in ("/jobs", f"/jobs/{ensemble.replica}"):
        assert f"replica 1 of group {ensemble.group}</a>" in browser_client.get(path).text


def test_a_job_that_compares_models_has_frames_and_a_file(browser_client: TestClient, ensemble: SeededGroup) -> None:
    html = browser_client.get(f"/jobs/{ensemble.deviation}").text
    assert "<dt>Frame</dt>" in html
    link = re.search(r'href="(/api/v1/jobs/\d+/files/model_devi.out)"', html)
    assert link is not None
    assert browser_client.get(link[1]).text.startswith("#       step")


def test_seeds_and_weights_show_what_was_checked(browser_client: TestClient, seeded: Seeded) -> None:
    html = browser_client.get(f"/jobs/{seeded.running}/seeds").text
    assert html.count("Decided by its own seed, and by nothing else") == 2
    assert "Has no weights that a seed could decide" in html
    assert "data order</th>" in html
    assert html.index(">8,000<") < html.index(">4,000<")
    overview = browser_client.get(f"/jobs/{seeded.running}").text
    assert "damaged: sha256 differs" in overview


def test_cancelling_needs_the_csrf_token_and_says_how(browser_client: TestClient, seeded: Seeded) -> None:
    path = f"/jobs/{seeded.running}/cancel"
    refused = browser_client.post(path, data={"how": "now"})
    assert refused.status_code == 403
    assert "security token" in refused.text
    token = csrf_of(browser_client.get(f"/jobs/{seeded.running}").text)
    answer = browser_client.post(path, data={"how": "checkpoint", "csrf_token": token}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{seeded.running}")
    html = browser_client.get(f"/jobs/{seeded.running}").text
    assert 'class="chip stopping"' in html
    assert "in the dashboard" in html


def test_a_search_that_cannot_be_read_says_so_beside_the_field(browser_client: TestClient, seeded: Seeded) -> None:
    answer = browser_client.get("/jobs", params={"where": "explicit:rcut; guess:rcut > 6; rcut > six"})
    assert answer.status_code == 200
    assert "&#39;guess&#39; is no origin" in answer.text
    assert "&gt; compares numbers" in answer.text
    assert 'value="explicit:rcut; guess:rcut &gt; 6; rcut &gt; six"' in answer.text
    assert "The search cannot be read" in answer.text


def test_promoting_needs_the_csrf_token_and_leads_to_the_model(browser_client: TestClient, seeded: Seeded) -> None:
    path = f"/jobs/{seeded.completed}/promote"
    assert browser_client.post(path, data={"step": 20_000}).status_code == 403
    token = csrf_of(browser_client.get("/jobs").text)
    for _ in range(2):
        answer = browser_client.post(path, data={"step": 20_000, "csrf_token": token}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/models/job-{seeded.completed}@1")
    missing = browser_client.post(path, data={"step": 7, "csrf_token": token})
    assert missing.status_code == 404
    assert "has no checkpoint of step 7" in missing.text


def test_reproducing_needs_the_csrf_token_and_leads_to_one_new_job(
    browser_client: TestClient, seeded: Seeded, app: FastAPI
) -> None:
    path = f"/jobs/{seeded.completed}/reproduce"
    form = {"key": "once", "allow_other_versions": "true"}
    assert browser_client.post(path, data=form).status_code == 403
    form["csrf_token"] = csrf_of(browser_client.get("/jobs").text)
    answers = [browser_client.post(path, data=form, follow_redirects=False) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    location = answers[0].headers["location"]
    assert location == answers[1].headers["location"], "a double click makes one job"
    new = int(location.rsplit("/", 1)[1])
    for page in (location, "/jobs"):
        html = browser_client.get(page).text
        assert f'data-follow="/api/v1/jobs/{seeded.completed}/compare/{new}"' in html
    with transaction(app.state.sessions) as session:
        job = session.get_one(Job, new)
        job.reproduction = "diverged"
        tell(session, new, "reproduction", "diverged at step 1,241: train/loss is 1 in job 1, 2 in job 9")
    for page in (location, f"{location}/log", "/jobs"):
        html = browser_client.get(page).text
        assert ">diverged at step 1,241</span>" in html, page
        assert f'data-follow="/api/v1/jobs/{seeded.completed}/compare' not in html


def test_a_job_that_was_never_run_is_not_reproduced(browser_client: TestClient, seeded: Seeded) -> None:
    form = {"key": "once", "csrf_token": csrf_of(browser_client.get("/jobs").text)}
    answer = browser_client.post(f"/jobs/{seeded.queued}/reproduce", data=form)
    assert answer.status_code == 409
    assert "was never run" in answer.text


def test_a_job_of_an_engine_that_is_gone_has_a_page(browser_client: TestClient, seeded: Seeded, app: FastAPI) -> None:
    with transaction(app.state.sessions) as session:
        session.get_one(Job, seeded.completed).engine = "gone"
    assert browser_client.get(f"/jobs/{seeded.completed}/log").status_code == 200
    form = {"key": "once", "csrf_token": csrf_of(browser_client.get("/workers").text)}
    answer = browser_client.post(f"/jobs/{seeded.completed}/reproduce", data=form)
    assert answer.status_code == 422
    assert "there is no engine" in answer.text


def test_another_version_is_asked_about_first(browser_client: TestClient, seeded: Seeded, app: FastAPI) -> None:
    with transaction(app.state.sessions) as session:
        attempt = session.query(Attempt).filter(Attempt.job_id == seeded.completed).one()
        attempt.environment = {"libraries": {"deepmd-kit": "3.0.1"}}
    html = browser_client.get(f"/jobs/{seeded.completed}").text
    assert "The job ran with deepmd-kit 3.0.1" in html
    form = {"key": "once", "csrf_token": csrf_of(html)}
    assert browser_client.post(f"/jobs/{seeded.completed}/reproduce", data=form).status_code == 409


def test_two_runs_are_compared_step_by_step(browser_client: TestClient, seeded: Seeded) -> None:
    html = browser_client.get(f"/jobs/{seeded.completed}/diff/{seeded.running}").text
    found = browser_client.get(f"/api/v1/jobs/{seeded.completed}/compare/{seeded.running}").json()
    first = found["divergence"]
    for words in (found["summary"].split(":")[0], first["left"]["decimal"], first["right"]["hex"]):
        assert words in html
    for key in found["metrics"]:
        assert key in html
    same = browser_client.get(f"/jobs/{seeded.completed}/diff/{seeded.completed}").text
    assert "repeat-identical" in same
    assert "repeat-diverged" not in same


def test_the_check_answers_scripts_with_json_and_html(browser_client: TestClient, seeded: Seeded) -> None:
    headers = {"Accept": "application/json", "X-CSRF-Token": csrf_of(browser_client.get("/submit").text)}
    body = {"config": config(HOSTILE)}
    answer = browser_client.post("/submit/check", json=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["pending"] is False
    assert "Ready to submit" in answer.json()["html"]
    assert HOSTILE not in answer.json()["html"]
    refused = browser_client.post("/submit/check", json={"config": {}}, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["problems"]
    assert browser_client.post("/submit/check", json=body, headers={"Accept": "application/json"}).status_code == 403


def test_a_check_without_a_worker_says_what_it_waits_for(browser_client: TestClient, seeded: Seeded) -> None:
    headers = {"Accept": "application/json", "X-CSRF-Token": csrf_of(browser_client.get("/submit").text)}
    start = {"mode": "init", "base": "water@1"}
    example = known("deepmd").examples([])["fine-tuning"]
    body = {"config": json.loads(example), "start": start, "engine": "deepmd"}
    browser_client.app.state.settings.plan_wait_s = 0.1  # type: ignore[attr-defined]
    answer = browser_client.post("/submit/check", json=body, headers=headers).json()
    assert answer["pending"] is True
    assert "spinner" in answer["html"]
    assert "inherited from water@1" in answer["html"]


def test_a_finished_job_cannot_be_cancelled(browser_client: TestClient, seeded: Seeded) -> None:
    token = csrf_of(browser_client.get("/jobs").text)
    answer = browser_client.post(f"/jobs/{seeded.completed}/cancel", data={"how": "now", "csrf_token": token})
    assert answer.status_code == 409
    assert "is completed already" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/jobs/999", 404),
        ("/jobs/999/log", 404),
        ("/jobs/nonsense", 404),
        ("/nothing/here", 404),
        ("/groups/999", 404),
        ("/groups/nonsense", 404),
        ("/groups?cursor=garbage", 422),
        ("/datasets/none@3", 404),
        ("/submit?from=999", 404),
        ("/submit?from=x", 422),
        ("/jobs?cursor=garbage", 422),
        ("/jobs/99999999999999999999999", 404),
        ("/models/none@3", 404),
        ("/models?cursor=garbage", 422),
        ("/jobs/1/diff/999", 404),
        ("/jobs/compare?job=1", 422),
        ("/jobs/compare?job=1&job=2&job=3", 422),
    ],
)
def test_mistakes_get_a_page_of_the_same_design(browser_client: TestClient, path: str, status: int) -> None:
    answer = browser_client.get(path)
    assert answer.status_code == status, answer.text[:300]
    assert 'class="brand"' in answer.text
    assert "Traceback" not in answer.text


def test_a_copy_starts_from_what_was_submitted(browser_client: TestClient, seeded: Seeded) -> None:
    html = browser_client.get(f"/submit?from={seeded.queued}").text
    assert "se_atten_v2" in html
    assert 'name="priority" type="number" min="-100" max="100" step="1" value="5"' in html


def test_pages_forbid_everything_foreign(browser_client: TestClient, seeded: Seeded) -> None:
    answer = browser_client.get(f"/jobs/{seeded.running}")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert re.fullmatch(r"'self' 'nonce-[\w-]{20,}'", policy["style-src"])
    assert answer.headers["cache-control"] == "no-store"
    again = browser_client.get(f"/jobs/{seeded.running}").headers["content-security-policy"]
    assert again != answer.headers["content-security-policy"], "a nonce is used once"


def test_assets_are_kept_for_ever_and_nothing_else_is_served(assets: None, anonymous: TestClient) -> None:
    built = bundle.read()
    assert built is not None
    answer = anonymous.get(built.urls["main.js"])
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    for name in ("manifest.json", "built-from", "..%2fpackage.json", "%2e%2e/package.json", "no.js"):
        assert anonymous.get(f"/assets/{name}").status_code == 404, name


def test_without_assets_pages_say_how_to_build_them(
    browser_client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(bundle, "DIST", tmp_path / "missing")
    answer = browser_client.get("/jobs")
    assert answer.status_code == 503
    assert "make assets" in answer.text
    assert "python -m app.web.build" in answer.text
