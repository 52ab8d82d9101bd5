"""Every product that can be run, in the order of the table."""

from ..product import Product
from . import big, celery_batches, celery_pools, small, suites

PRODUCTS: tuple[Product, ...] = (
    *celery_batches.PRODUCTS,
    *suites.PRODUCTS,
    *celery_pools.PRODUCTS,
    *small.PRODUCTS,
    *big.PRODUCTS,
)
