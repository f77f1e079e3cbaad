"""Groups: jobs that were submitted as one, their statistics and what is done to all of them."""
