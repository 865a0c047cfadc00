"""The spool: pictures that are not committed yet and the ledger of calls, in one SQLite file of this host."""
