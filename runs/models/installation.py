"""The installation itself."""

import uuid

from django.db import models


class Installation(models.Model):
    """The one row by which the file storage is known again.

    A file with the id lies in the storage (`runs.health.storage`). `is_marked` says that it was
    written: if it is missing afterwards, the storage is another one.
    """

    SINGLE = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=SINGLE)
    storage_id = models.UUIDField(default=uuid.uuid4)
    is_marked = models.BooleanField(default=False, db_default=False)

    def __str__(self) -> str:
        return str(self.storage_id)
