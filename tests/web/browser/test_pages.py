"""Each page as people see it: without complaints, on a phone, without script, in both themes."""

from __future__ import annotations

import pytest

from pgjobs_celery.web.pages import ROUTES
from pgjobs_celery.web.routes import Page

from ..fleet.filling import Fleet
from ..fleet.pages import addresses
from .browsers import PHONE
from .conftest import NOT_INSTALLED, OpenTab, save_for_people

#: What is no page to look at: streams and downloads.
FILES = {"job_download", "events"}
PAGES = [
    *(route.name for route in ROUTES if isinstance(route, Page) and route.name not in FILES),
    *("job-failed", "job-canvas", "job-running", "job-long"),
]

#: The findings that count.
SERIOUS = ("serious", "critical")

#: The element that is wider than the screen, if the page can be moved sideways.
WIDEST = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return null;
  const wide = [...document.querySelectorAll("body *")].filter(
    each => each.getBoundingClientRect().right > room + 1 && !each.closest(".scroll"));
  return wide.length ? wide.at(-1).outerHTML.slice(0, 300) : "the body";
}"""


@pytest.fixture(scope="module")
def links(fleet: Fleet, address: str) -> dict[str, str]:
    """An address of each page."""
    return addresses(fleet, address)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_of_a_page_is_a_barrier(name: str, links: dict[str, str], open_tab: OpenTab):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=NOT_INSTALLED)
    tab = open_tab(links[name])
    findings = []
    # In the dark only the colours differ.
    for theme, options in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
        tab.emulate_media(color_scheme=theme)
        result = axe.Axe().run(tab, options=options).response
        findings += [
            f"{theme}: {found['id']}: {found['help']}: {node['html'][:200]}"
            for found in result["violations"]
            if found["impact"] in SERIOUS
            for node in found["nodes"][:3]
        ]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(name: str, links: dict[str, str], open_tab: OpenTab):
    tab = open_tab(links[name], size=PHONE, dark=True)
    save_for_people(tab, f"phone-{name}")
    assert tab.evaluate(WIDEST) is None


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_all_without_script(name: str, links: dict[str, str], open_tab: OpenTab):
    tab = open_tab(links[name], script=False)
    save_for_people(tab, f"laptop-{name}")
    assert tab.locator("h1").inner_text()
    assert not tab.locator("[data-needs-script]:visible").count()
