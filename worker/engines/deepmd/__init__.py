"""The torch half of the DeePMD engine."""
