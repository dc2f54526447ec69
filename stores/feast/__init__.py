"""Publishing to Feast: the repository, the point-in-time history, the online rows, and the difference between releases.

Feast itself is imported only inside functions: the import takes seconds.
"""
