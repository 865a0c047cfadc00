"""The morning after a build: what it did, what to do next, a page, a notification, and how it goes meanwhile."""
