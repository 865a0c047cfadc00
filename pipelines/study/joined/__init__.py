"""Several studies on one page and in one table, with what their pilots said beforehand."""
