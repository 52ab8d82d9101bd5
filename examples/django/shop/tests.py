"""``manage.py test``: jobs are rows of the test database, and go with the test's transaction."""

from __future__ import annotations

from django.test import TestCase, TransactionTestCase

from pgjobs_celery import jobs
from pgjobs_celery.django.models import Job
from pgjobs_celery.testing.unittest import PgJobsMixin

from .celery import app
from .models import Order
from .tasks import confirm


class OrderTest(TestCase):
    def test_an_order_is_to_be_confirmed(self) -> None:
        answer = self.client.post("/order", {"item": "tea"}).json()
        job = Job.objects.get(task=confirm.name)
        self.assertEqual((job.task_id, job.args), (answer["job"], [answer["order"]]))
        self.assertEqual(job.state, "available")

    def test_an_order_of_nothing_leaves_nothing(self) -> None:
        self.client.raise_request_exception = False
        self.client.post("/order", {"item": "nothing"})
        self.assertFalse(Order.objects.exists())
        self.assertFalse(Job.objects.exists())

    def test_a_job_for_after_the_commit(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            confirm.delay_on_commit(7)
            self.assertEqual(jobs(app).count(), 0)
        self.assertEqual(jobs(app).filter(args=[7]).count(), 1)

    def test_the_task_itself(self) -> None:
        order = Order.objects.create(item="tea")
        self.assertEqual(confirm(order.pk), "tea is on its way")


class RealTest(PgJobsMixin, TestCase):
    """The helpers on the rows of the test's transaction."""

    pgjobs_app = app
    pgjobs_mode = "real"

    def test_an_order_is_confirmed(self) -> None:
        order = self.client.post("/order", {"item": "tea"}).json()["order"]
        self.pgjobs.assert_enqueued(confirm, kwargs={"order_id": order}, count=1)
        self.assertEqual(self.pgjobs.drain_queue(), {"completed": 1})
        self.assertTrue(Order.objects.get(pk=order).is_confirmed)
        self.assertEqual(Job.objects.get(task=confirm.name).state, "completed")

    def test_an_order_of_nothing_enqueues_nothing(self) -> None:
        self.client.raise_request_exception = False
        self.client.post("/order", {"item": "nothing"})
        self.pgjobs.refute_enqueued(confirm)


class CapturedTest(PgJobsMixin, TestCase):
    """The helpers without rows: where the broker is another one, too."""

    pgjobs_app = app

    def test_an_order_is_to_be_confirmed(self) -> None:
        with self.pgjobs.assert_enqueued(confirm, count=1):
            self.client.post("/order", {"item": "tea"})

    def test_a_job_for_after_the_commit(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            confirm.delay_on_commit(7)
            self.pgjobs.refute_enqueued(confirm)
        self.pgjobs.assert_enqueued(confirm, args=[7])

    def test_the_task_as_a_worker_runs_it(self) -> None:
        order = Order.objects.create(item="tea")
        self.assertEqual(self.pgjobs.perform_job(confirm, [order.pk]).get(), "tea is on its way")


class CommittedTest(TransactionTestCase):
    """Where something is really committed: Django does not delete the jobs, they are not its."""

    def tearDown(self) -> None:
        jobs(app).delete()

    def test_the_job_is_committed_with_the_order(self) -> None:
        self.client.post("/order", {"item": "tea"})
        self.assertEqual(jobs(app).filter(task=confirm, state="available").count(), 1)
