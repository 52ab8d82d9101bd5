"""Take the pictures of the page that README and docs show: docs/images/*.webp.

    python -m tests.web.browser.pictures
    python -m tests.web.browser.pictures --all DIR    # every page, in each size and theme
    python -m tests.web.browser.pictures --serve      # the same shop, to look around

Needs the extra ``browser`` and chromium. The shop is that of tests/web/fleet.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from PIL import Image
from playwright.sync_api import sync_playwright

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.web import dashboard

from ..fleet.filling import shop_at_work
from ..fleet.pages import addresses
from ..serving import served
from .browsers import PHONE, by_header, start_chromium

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs" / "images"

#: The pages that are shown, by the names of their pictures, and in which size.
SHOWN = {
    "overview": ("overview", 1200, 760),
    "job": ("job-canvas", 1200, 700),
    "failures": ("failures", 1200, 460),
}
#: kB that a picture may have.
LARGEST = 120
#: Sizes to look at.
SIZES = {
    "1440": {"width": 1440, "height": 900},
    "1024": {"width": 1024, "height": 768},
    "390": PHONE,
}


@click.command()
@click.option("--all", "folder", type=click.Path(path_type=Path), help="Every page, into a folder.")
@click.option("--serve", is_flag=True, help="Serve the page until a key is pressed.")
@click.option("--jobs", default=20_000, show_default=True, help="How many have ended.")
@click.option("--only", default="", help="Pages whose name contains this.")
def main(folder: Path | None, serve: bool, jobs: int, only: str) -> None:
    """Fill a shop's database, and take pictures of the page."""
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as place:
        url = server.database_url("postgres")
        with migrations.session(parse_url(url)) as connection:
            migrations.migrate(connection, "pgjobs")
        with (
            shop_at_work(url, Path(place), finished=jobs, hours=24) as fleet,
            served(dashboard(fleet.app, login=by_header, title="Shop")) as address,
        ):
            if serve:
                click.pause(f"{address} psql {url} {fleet.ids}")
                return
            with sync_playwright() as playwright:
                browser = start_chromium(playwright)
                named = addresses(fleet, address)
                if folder is None:
                    publish(browser, address, named)
                else:
                    for name, link in named.items():
                        if only in name:
                            look_at(browser, address, name, link, folder)


def publish(browser: Any, address: str, named: dict[str, str]) -> None:
    """The pictures of the documents."""
    IMAGES.mkdir(exist_ok=True)
    for name, (page, width, height) in SHOWN.items():
        for theme in ("light", "dark"):
            tab = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=theme,
                device_scale_factor=1.5,
            )
            tab.goto(address + named[page])
            picture = Image.open(io.BytesIO(tab.screenshot()))
            path = IMAGES / f"{name}-{theme}.webp"
            picture.convert("RGB").quantize(128).save(path, lossless=True, quality=100, method=6)
            size = path.stat().st_size / 1000
            click.echo(f"{path.relative_to(ROOT)}: {size:.0f} kB")
            if size > LARGEST:
                raise click.ClickException(f"{path} has more than {LARGEST} kB")
            tab.close()


def look_at(browser: Any, address: str, name: str, link: str, folder: Path) -> None:
    """One page in all sizes and themes."""
    folder.mkdir(exist_ok=True, parents=True)
    for size, viewport in SIZES.items():
        for theme in ("light", "dark"):
            if theme == "dark" and size == "1024":
                continue
            tab = browser.new_page(viewport=viewport, color_scheme=theme)
            tab.goto(address + link)
            tab.screenshot(path=folder / f"{name}-{size}-{theme}.png", full_page=size != "1440")
            tab.close()


if __name__ == "__main__":
    sys.exit(main())
