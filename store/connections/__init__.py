"""How the database is reached: pools, their sockets, and the log of its outages. Above it stand the tables."""
