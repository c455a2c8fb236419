-- Besides the strategy: the order of a step's items, the tier of models, and whether another round is worth it.
-- Ignored: as in 0006. No release has had this table.

ALTER TABLE choices ADD COLUMN decision text NOT NULL DEFAULT 'strategy';
ALTER TABLE choices ADD COLUMN action text NOT NULL DEFAULT '';
ALTER TABLE choices ADD COLUMN reward_so_far double precision;
UPDATE choices SET
    action = strategy,
    alternatives = (
        SELECT coalesce(jsonb_agg((a - 'strategy') || jsonb_build_object('action', a -> 'strategy')), '[]')
        FROM jsonb_array_elements(alternatives) AS a
    );
-- squawk-ignore ban-drop-default
ALTER TABLE choices ALTER COLUMN action DROP DEFAULT;
-- squawk-ignore ban-drop-column
ALTER TABLE choices DROP COLUMN strategy;
-- squawk-ignore ban-drop-constraint
ALTER TABLE choices DROP CONSTRAINT choices_pkey;
-- squawk-ignore adding-serial-primary-key-field, constraint-missing-not-valid
ALTER TABLE choices ADD CONSTRAINT choices_pkey PRIMARY KEY (run_id, step, item, decision);
