-- How long cases took in one passing attempt of each shard of cells that are split alike, in the newest runs: what later runs
-- balance their shards by. `cells` is the key of those cells, `said` a byte for each name of the set.

CREATE TABLE durations (
    matrix TEXT NOT NULL,
    cells TEXT NOT NULL,
    run INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    case_set INTEGER NOT NULL,
    said BLOB NOT NULL,
    PRIMARY KEY (matrix, cells, run, shard)
) WITHOUT ROWID;

CREATE INDEX durations_by_run ON durations (run);
