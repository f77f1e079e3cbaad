"""What the intakes of all engines share: the order and its answer, unpacking, copying, and the archive of what stands."""
