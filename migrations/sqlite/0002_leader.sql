-- A lock on a file sees to it that one server uses this database at a time; the epoch grows with every start, so that
-- what earlier ones decided can be told from what this one decides.

CREATE TABLE leader (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
);
