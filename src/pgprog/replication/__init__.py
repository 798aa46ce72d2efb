"""Follow the committed changes of a database: logical decoding by `pgoutput`, read by psycopg.

`messages` says what a reader hears; `pgoutput` decodes it, `transactions` puts it together, both
without I/O; `stream` reads one connection, `feed` keeps one open.
"""
