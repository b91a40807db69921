-- What earlier runs said of a cell that others are compared with, as its run took it into account: reports stay as they
-- are when those runs are pruned.

CREATE TABLE earlier (
    run INTEGER NOT NULL,
    cell INTEGER NOT NULL,
    said TEXT NOT NULL,
    PRIMARY KEY (run, cell)
) WITHOUT ROWID;

-- Runs of one matrix, the newest last.
CREATE INDEX runs_by_name ON runs (name, key);
