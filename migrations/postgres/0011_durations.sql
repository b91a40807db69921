-- How long cases took in one passing attempt of each shard of cells that are split alike, in the newest runs: what later runs
-- balance their shards by. `cells` is the key of those cells, `said` a byte for each name of the set.

CREATE TABLE durations (
    matrix TEXT NOT NULL,
    cells TEXT NOT NULL,
    run BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    case_set BIGINT NOT NULL,
    said BYTEA NOT NULL,
    PRIMARY KEY (matrix, cells, run, shard)
);

CREATE INDEX durations_by_run ON durations (run);
