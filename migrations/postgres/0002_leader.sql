-- Who may write: the server that holds the lease. The epoch grows with every change of the leader, and every
-- transaction that writes says the epoch that it believes in.

CREATE TABLE leader (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch BIGINT NOT NULL,
    id TEXT NOT NULL,
    address TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);

-- Refuses a transaction whose epoch is not the leader's, and keeps the leader from changing before it ends.
CREATE FUNCTION fence(believed BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    found BIGINT;
BEGIN
    SELECT epoch INTO found FROM leader WHERE one = 1 FOR SHARE;
    IF found IS DISTINCT FROM believed THEN
        RAISE EXCEPTION 'epoch % is over, the leader''s is %', believed, found USING ERRCODE = 'RG001';
    END IF;
END
$$;
