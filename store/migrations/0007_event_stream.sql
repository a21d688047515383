-- least code: 6

-- The event streams this deployment has published to: which one, how far it went, when a node last saw it. One that was never seen
-- before, or that ends earlier than it did, has lost what was in it.
CREATE TABLE event_streams (
    created       text PRIMARY KEY,  -- the stream's time of creation, as NATS tells it: its identity
    last_sequence int8 NOT NULL,
    seen_at       int8 NOT NULL
) WITH (fillfactor = 50);

-- Shards whose events since `since` are being published again, by whoever hosts them, run by run in the order of their ids.
CREATE TABLE republishing (
    shard     int4 PRIMARY KEY,
    job       text NOT NULL,                -- another one when what is asked for changes
    since     int8 NOT NULL,
    upto_run  text NOT NULL,                -- runs with ids from here on began later and need no repetition
    namespace text,                         -- null: all
    after_run text NOT NULL DEFAULT ''      -- everything up to this run is done
) WITH (fillfactor = 50);
