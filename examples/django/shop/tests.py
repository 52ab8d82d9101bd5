"""``manage.py test``: jobs are rows of the test database, and go with the test's transaction."""

from __future__ import annotations

from django.test import TestCase, TransactionTestCase

from pgjobs_celery import jobs
from pgjobs_celery.django.models import Job

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


class CommittedTest(TransactionTestCase):
    """Where something is really committed: Django does not delete the jobs, they are not its."""

    def tearDown(self) -> None:
        jobs(app).delete()

    def test_the_job_is_committed_with_the_order(self) -> None:
        self.client.post("/order", {"item": "tea"})
        self.assertEqual(jobs(app).filter(task=confirm, state="available").count(), 1)
