"""`cairn …`: a client of the REST API. Imports `app.wire`, httpx, typer and rich only."""
