"""The encode job: workers on Ray run an encoder over histories and titles, and reuse vectors where nothing changed."""
