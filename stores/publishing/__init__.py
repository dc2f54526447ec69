"""Change what consumers read: publish, promote, roll back, erase and drop releases, each resumable after a kill."""
