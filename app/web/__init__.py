"""The dashboard: server-rendered pages with htmx, live through the event stream."""
