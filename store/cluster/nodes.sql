-- Statements of store/cluster/nodes.py. All times are microseconds by the database's clock; `{now}` reads it, `{is_mine}` holds for an
-- incarnation that still has its node id.

-- name: beat
-- Renews the lease of a node, or takes over a node id whose lease has ended, forgets nodes long gone, and looks around. Rows by
-- `what`: n a node whose lease runs, this one included; h who has our node id, and nothing was renewed; c the clock; s a shard.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
forgotten AS (
    DELETE FROM nodes n USING clock WHERE n.expires_at < clock.now - {forget_after} AND n.node_id <> $1
),
mine AS (
    INSERT INTO nodes AS n (node_id, incarnation, address, started_at, expires_at, draining)
    SELECT $1, $2, $3, now, now + $4::int8, $5 FROM clock
    ON CONFLICT (node_id) DO UPDATE
    SET incarnation = excluded.incarnation,
        address = excluded.address,
        started_at = CASE WHEN n.incarnation = excluded.incarnation THEN n.started_at ELSE excluded.started_at END,
        expires_at = excluded.expires_at,
        draining = excluded.draining
    WHERE n.incarnation = excluded.incarnation OR n.expires_at <= {now}
    RETURNING node_id, incarnation, address, draining, expires_at
)
SELECT 'n' AS what, node_id, incarnation, address, draining, expires_at, NULL::int4 AS shard FROM mine
UNION ALL
SELECT 'n', n.node_id, n.incarnation, n.address, n.draining, n.expires_at, NULL
FROM nodes n, clock WHERE n.expires_at > clock.now AND n.node_id <> $1
UNION ALL
SELECT 'h', n.node_id, n.incarnation, n.address, n.draining, n.expires_at, NULL
FROM nodes n WHERE n.node_id = $1 AND NOT EXISTS (SELECT FROM mine)
UNION ALL
SELECT 'c', '', NULL, NULL, NULL, clock.now, NULL FROM clock
UNION ALL
SELECT 's', s.node_id, NULL, NULL, NULL, NULL, s.shard FROM shards s

-- name: acquire
-- Takes those of the wanted shards that are free, or whose holder's lease has ended; returns what this node then holds of them.
UPDATE shards s
SET node_id = $1, acquired_at = CASE WHEN s.node_id = $1 THEN s.acquired_at ELSE {now} END
FROM (SELECT shard FROM shards WHERE shard = ANY ($3) ORDER BY shard FOR UPDATE) wanted
WHERE s.shard = wanted.shard
    AND {is_mine}
    AND (
        s.node_id IS NULL
        OR s.node_id = $1
        OR NOT EXISTS (SELECT FROM nodes n WHERE n.node_id = s.node_id AND n.expires_at > {now})
    )
RETURNING s.shard

-- name: release
-- Gives up those of the shards that this node holds.
UPDATE shards SET node_id = NULL, acquired_at = NULL WHERE node_id = $1 AND {is_mine} AND shard = ANY ($3) RETURNING shard

-- name: leave
-- Ends the lease and gives up every shard.
WITH gone AS (DELETE FROM nodes WHERE node_id = $1 AND incarnation = $2 RETURNING node_id)
UPDATE shards s SET node_id = NULL, acquired_at = NULL FROM gone WHERE s.node_id = gone.node_id
