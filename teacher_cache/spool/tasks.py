"""Tasks: what a server answered in place of a picture that it draws later. They are paid for, so a build that was
killed while it waited leaves them to the next one, which asks for them in place of a new call.
"""

from __future__ import annotations

from teacher_cache.spool.spool import Spool
from teacher_cache.teachers import Teacher


def keep_tasks(teacher: Teacher, spool: Spool, digest: str) -> None:
    """Let a teacher whose server draws later keep its tasks in a spool."""
    if hasattr(teacher, "tasks"):
        teacher.tasks = SpoolTasks(spool, digest)


class SpoolTasks:
    """The tasks of one teacher (its digest), by image key. An answer that is stored removes its key's task."""

    def __init__(self, spool: Spool, teacher: str) -> None:
        self._database, self._teacher = spool.database, teacher

    def get(self, image_key: str) -> bytes | None:
        """Return the reply that announced the task of a picture; None if there is none."""
        query = "SELECT reply FROM tasks WHERE image_key = ? AND teacher = ?"
        found = self._database.read(query, image_key, self._teacher)
        return bytes(found[0][0]) if found else None

    def note(self, image_key: str, reply: bytes) -> None:
        """Store the reply that announced a task; it is durable then."""
        with self._database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", (image_key, self._teacher, reply))

    def drop(self, image_key: str) -> None:
        """Forget a task that brings no picture."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM tasks WHERE image_key = ?", (image_key,))
