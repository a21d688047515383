-- Which update a caller's request id stands for: makes updates idempotent per workflow id, also after they closed.
CREATE TABLE update_requests (
    workflow_id text NOT NULL,
    request_id  text NOT NULL,
    run_id      text NOT NULL,
    update_id   text NOT NULL,
    PRIMARY KEY (workflow_id, request_id)
);
