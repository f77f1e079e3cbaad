"""Reading what people send as DeePMD data: systems as they are, or structures of other codes, converted."""

from app.engines.deepmd.intake.taking import take_in

__all__ = ["take_in"]
