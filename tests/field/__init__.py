"""Real software from the registry, run on pgjobs and, as the control, on Redis: ``make field``.

    make field                                   # all but the big products
    make field ARGS="--list"
    make field ARGS="celery-batches mayan"
    make field ARGS="--fast"                     # what .ci/run has time for
    make field ARGS="--big airflow"              # whole applications: minutes each
    make field ARGS="--write"                    # put the results into the compatibility page
    FIELD_CELERY_BATCHES=~/celery-batches make field ARGS=celery-batches-tests

A product is a module of ``products``. Each has an environment in ``.field``, where it is installed
as it comes, beside this checkout. It is one of two kinds:

* a **suite** (suites.py): the product's own tests, from its source distribution, whose results are
  compared test by test;
* a **program** (``foreign``): a small application of the product's, which does what the product
  does with Celery and reports what it saw, to be compared value by value.
"""
