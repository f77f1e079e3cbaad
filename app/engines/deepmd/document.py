"""A submitted input, and where its values stood: what all engines use for it, under one name."""

from app.engines.documents import dotted as dotted
from app.engines.documents import short as short
from app.engines.ways import Way as Way
from app.engines.ways import given as given
from app.engines.ways import nearest as nearest
