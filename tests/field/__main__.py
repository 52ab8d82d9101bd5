"""Choose products, run them, and show the table."""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path

import click

from .environments import ask_versions, make_environment
from .processes import TookTooLong
from .product import FIELD, Outcome, Product, Size, Skip, Stage
from .products import PRODUCTS
from .servers import Servers, running_servers
from .table import to_lines, write_page


@click.command()
@click.option("--list", "is_list", is_flag=True, help="Name the products and what is run.")
@click.option("--fast", "is_fast", is_flag=True, help="What .ci/run has time for.")
@click.option("--big", "is_big", is_flag=True, help="Whole applications too: minutes each.")
@click.option("--write", is_flag=True, help="Put the results into the compatibility page.")
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...], is_list: bool, is_fast: bool, is_big: bool, write: bool) -> None:
    """Run foreign software on pgjobs and on Redis: NAMES, or all that the options allow."""
    chosen = choose(names, is_fast=is_fast, is_big=is_big)
    if is_list:
        for product in chosen if names else PRODUCTS:
            click.echo(f"{product.name:24}{product.size.value:6}{product.ran}")
        return
    outcomes = []
    with running_servers() as servers:
        if not servers.has_redis:
            click.echo("There is no redis-server to compare with.", err=True)
        for number, product in enumerate(chosen, start=1):
            click.echo(f"==> {number} of {len(chosen)}: {product.name}", err=True)
            outcomes.append(run_product(product, servers, is_fast))
            click.echo(f"    {outcomes[-1].result} ({outcomes[-1].seconds:.0f} s)", err=True)
            for note in outcomes[-1].notes:
                click.echo(f"    {note}", err=True)
            if write:
                write_page(outcomes, date.today())
    click.echo("\n".join(to_lines(outcomes, date.today())))
    sys.exit(any(outcome.has_failed for outcome in outcomes))


def choose(names: tuple[str, ...], *, is_fast: bool, is_big: bool) -> list[Product]:
    """The products to run, in the order of the table; raises UsageError for an unknown name."""
    known = [product.name for product in PRODUCTS]
    for name in names:
        if name not in known:
            raise click.UsageError(f"{name} is not among the products: {', '.join(known)}")
    if names:
        return [product for product in PRODUCTS if product.name in names]
    left_out = {Size.BIG, Size.MEDIUM} if is_fast else set() if is_big else {Size.BIG}
    return [product for product in PRODUCTS if product.size not in left_out]


def run_product(product: Product, servers: Servers, is_fast: bool) -> Outcome:
    """Install the product and run it on each side."""
    begun = time.monotonic()

    def end(version: str, result: str, *notes: str) -> Outcome:
        return Outcome(product.name, version, product.ran, result, time.monotonic() - begun, notes)

    folder = FIELD / product.name / "run"
    folder.mkdir(parents=True, exist_ok=True)
    version = ""
    try:
        if product.needs_redis and not servers.has_redis:
            raise Skip("needs Redis beside the broker, and redis-server is not on the PATH")
        python = make_environment(product.environment)
        version = ", ".join(_tell_versions(product, python))
        stage = Stage(python, folder, servers.make_pgjobs(), servers.make_redis(), is_fast)
        begun = time.monotonic()
        result, notes = product.run(stage)
        return end(version, result, *notes)
    except Skip as skip:
        return end(version, "skipped", str(skip))
    except TookTooLong as error:
        return end(version, "FAILED", str(error))


def _tell_versions(product: Product, python: Path) -> list[str]:
    names = (product.distribution, *product.beside)
    found = zip(names, ask_versions(python, names), strict=True)
    return [v if name == product.name else f"{name} {v}" for name, v in found]


if __name__ == "__main__":
    main()
