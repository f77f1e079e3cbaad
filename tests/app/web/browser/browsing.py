"""What several browser tests do."""

from playwright.sync_api import Locator, Page

from tests.app.web.seeding import Seeded, SeededGroup


def paths(content: Seeded, ensemble: SeededGroup) -> list[str]:
    jobs = [f"/jobs/{content.running}{tail}" for tail in ("", "/config", "/seeds", "/log", "/history")]
    jobs += [f"/jobs/{job}" for job in (content.failed, content.queued, content.hostile, content.checking)]
    jobs += [f"/jobs/{content.finetuned}/{tab}" for tab in ("config", "transfer", f"diff/{content.completed}")]
    models = ["/models", "/models/water@1", "/models/water@2", "/models/omat-multi", "/models/notes"]
    submit = [f"/submit?from={job}" for job in (content.completed, content.finetuned)]
    groups = ["/groups", f"/groups/{ensemble.group}", f"/jobs/{ensemble.deviation}"]
    return ["/jobs", *jobs, *groups, "/jobs?where=x!!", "/datasets", "/datasets/water@2", *models, "/workers", *submit]


def chart(name: str) -> str:
    return f"figure[data-panel='{name}']"


def drag(page: Page, area: Locator, start: float, stop: float) -> None:
    box = area.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + stop) / 2 * box["width"], y, steps=3)
    page.mouse.move(box["x"] + stop * box["width"], y, steps=3)
    page.mouse.up()


def expect_faults(faults: list[str], words: str) -> None:
    """Take the faults with these words out: there must be some."""
    expected = [fault for fault in faults if words in fault]
    assert expected
    for fault in expected:
        faults.remove(fault)
