"""Releases of a workspace: plan, manifest, stages, dead letters, the lease and the pointer to what is live."""
