-- least code: 5
--
-- Which programs can run on the schema. A migration says in its head, `-- least code: N`, the least schema version that a program must
-- know to run on a database that has it; without such a line that is its own version. So a migration that older programs need not
-- know (a new index, a column with a default) lets them go on while a cluster is renewed node by node, and one that they must
-- know stops them. NULL stands for the version of the row.
ALTER TABLE schema_migrations ADD COLUMN least_code int4;
