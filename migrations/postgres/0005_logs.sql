-- The logs grow at one end and are trimmed at the other all the time. What was trimmed is to be used again soon, however
-- long the log is: by the usual rule a fifth of it would have to go first.

-- The ids of a row of many beats lie beside the table, a dozen pieces and more, and are what takes the room.
ALTER TABLE beats SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 500,
    toast.autovacuum_vacuum_cost_delay = 0);

-- Two in a hundred, as a run reads all indexes of a million rows.
ALTER TABLE changes SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ended_sessions SET (autovacuum_vacuum_scale_factor = 0.05);
