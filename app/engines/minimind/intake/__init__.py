"""Reading what people send as MiniMind data: JSON lines of text or conversations, or a tokenizer."""

from app.engines.minimind.intake.taking import take_in

__all__ = ["take_in"]
