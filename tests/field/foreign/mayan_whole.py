"""The whole of Mayan EDMS: its check at the start, and a document that is uploaded and shown."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import django
from observing import (
    BROKER,
    FOLDER,
    RESULTS,
    django_database,
    observe,
    running_worker,
    wait_until,
)

SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "mayan.settings.production",
    "MAYAN_CELERY_BROKER_URL": BROKER,
    "MAYAN_CELERY_RESULT_BACKEND": RESULTS,
    "MAYAN_DATABASES": json.dumps({"default": django_database()}),
    "MAYAN_MEDIA_ROOT": str(FOLDER),
    "MAYAN_SECRET_KEY": "of-a-test-and-long-enough-to-be-taken-for-one",
    # Its locks are in a file there, named by the secret alone.
    "MAYAN_STORAGE_TEMPORARY_DIRECTORY": str(FOLDER),
}


def set_up() -> dict[str, Any]:
    os.environ.update(SETTINGS)
    (FOLDER / "system").mkdir()
    program = Path(sys.executable).with_name("mayan-edms.py")
    # Each command and each worker sets and deletes a key of the result backend before it begins.
    ended = [
        subprocess.run([str(program), *arguments], check=False).returncode
        for arguments in (("migrate", "-v", "0"), ("search_initialize",))
    ]
    if any(ended):
        raise RuntimeError(f"mayan-edms.py ended with {ended}")
    django.setup()
    return {"starts": True}


def scenario() -> dict[str, Any]:
    seen = set_up()
    from mayan.apps.task_manager.classes import CeleryQueue

    queues = ",".join(sorted(queue.name for queue in CeleryQueue.all()))
    upload()
    with running_worker("mayan", "-c", "2", "-Q", queues):
        seen.update(look_at_document())
    return seen


def upload() -> None:
    """As its API does, of a picture: nothing but Python is needed to read it."""
    from django.contrib.auth import get_user_model
    from django.core.files.base import ContentFile
    from mayan.apps.documents.models import DocumentType
    from mayan.apps.documents.tasks import task_document_upload
    from mayan.apps.storage.models import SharedUploadedFile
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (64, 32), "navy").save(picture, "PNG")
    shared = SharedUploadedFile.objects.create(file=ContentFile(picture.getvalue(), "picture.png"))
    user = get_user_model().objects.create_superuser("field", "field@example.org", "field")
    kind = DocumentType.objects.create(label="Pictures")
    task_document_upload.apply_async(
        kwargs={
            "document_type_id": kind.pk,
            "shared_uploaded_file_id": shared.pk,
            "label": "picture.png",
            "user_id": user.pk,
        }
    )


def look_at_document() -> dict[str, Any]:
    from django.contrib.contenttypes.models import ContentType
    from mayan.apps.converter.tasks import task_content_object_image_generate
    from mayan.apps.documents.models import Document, DocumentFile, DocumentVersionPage

    # Tasks of their own find each.
    read = DocumentFile.objects.filter(checksum__gt="", mimetype__gt="")
    wait_until(lambda: DocumentVersionPage.objects.exists() and read.exists(), 300)
    file = DocumentFile.objects.get()
    page = DocumentVersionPage.objects.get()
    seen: dict[str, Any] = {
        "document": Document.objects.get().label,
        "file": [file.mimetype, len(file.checksum or ""), file.pages.count()],
    }
    # As a request for the page's picture does, which waits for the worker.
    shown = task_content_object_image_generate.apply_async(
        kwargs={
            "content_type_id": ContentType.objects.get_for_model(page).pk,
            "object_id": page.pk,
        }
    )
    name = shown.get(timeout=180)
    with page.cache_partition.get_file(filename=name).open() as picture:
        seen["picture"] = len(picture.read()) > 0
    shown.forget()
    seen["found by the search"] = wait_until(find_documents, 120)
    return seen


def find_documents() -> list[str]:
    """What its search knows, by the tasks that write its index."""
    from django.contrib.auth import get_user_model
    from mayan.apps.dynamic_search.search_backends import SearchBackend
    from mayan.apps.dynamic_search.search_models import SearchModel

    _, found = SearchBackend.get_instance().search(
        query={"label": "picture.png"},
        search_model=SearchModel.get(name="documents.documentsearchresult"),
        user=get_user_model().objects.get(username="field"),
    )
    return [document.label for document in found]


if __name__ == "__main__":
    observe(scenario)
