-- The beat log grows and is trimmed all the time. What was trimmed is to be used again soon, however long the log is:
-- its ids lie beside the table, a dozen pieces and more for a row of many beats, and are what takes the room.
ALTER TABLE beats SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 500,
    toast.autovacuum_vacuum_cost_delay = 0);
