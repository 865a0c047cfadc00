"""Both kinds of chance in a verdict: which seeds were drawn, and which test rows."""
