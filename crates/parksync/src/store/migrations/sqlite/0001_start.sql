-- Times are milliseconds since 1970, UTC. *_tag is a keyed digest, *_sealed is AES-256-GCM with the key's number in front.

CREATE TABLE circle (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    merchant TEXT NOT NULL
);

CREATE TABLE member (
    id            INTEGER PRIMARY KEY,
    circle        TEXT    NOT NULL,
    appid         TEXT    NOT NULL,
    member_tag    BLOB    NOT NULL UNIQUE,
    openid_sealed BLOB    NOT NULL,
    created_at    INTEGER NOT NULL
);

CREATE TABLE binding (
    circle       TEXT    NOT NULL,
    plate_tag    BLOB    NOT NULL,
    member_id    INTEGER NOT NULL REFERENCES member (id),
    plate_sealed BLOB    NOT NULL,
    bound_at     INTEGER NOT NULL,
    PRIMARY KEY (circle, plate_tag, member_id)
) WITHOUT ROWID;
CREATE INDEX binding_of_member ON binding (member_id);

CREATE TABLE visit (
    id          INTEGER PRIMARY KEY,
    circle      TEXT    NOT NULL,
    plate_tag   BLOB    NOT NULL,
    entered_lot TEXT,
    entered_at  INTEGER,
    left_lot    TEXT,
    left_at     INTEGER,
    ended       TEXT,                  -- NULL while inside; 'left', 'no-exit-seen', 'stale' or 'cancelled'
    forget_from INTEGER,               -- retention counts from here; NULL while inside
    of_member   INTEGER NOT NULL,      -- a member was bound to the plate at one of its crossings
    reread      INTEGER NOT NULL       -- one of its ends was read more than once
);
CREATE INDEX visit_of_plate ON visit (circle, plate_tag, id);
CREATE INDEX visit_open ON visit (entered_at) WHERE ended IS NULL;
CREATE INDEX visit_closed ON visit (forget_from) WHERE forget_from IS NOT NULL;

-- One row per gate event that was understood. `dedupe` is what makes a resend the same event.
CREATE TABLE event (
    id           INTEGER PRIMARY KEY,
    dedupe       BLOB    NOT NULL UNIQUE,
    record_tag   BLOB,                 -- the sender's own record, by which it is corrected or cancelled
    visit_id     INTEGER,
    circle       TEXT    NOT NULL,
    lot          TEXT    NOT NULL,
    gate         TEXT,
    plate_tag    BLOB    NOT NULL,
    plate_sealed BLOB,                 -- only when a member is bound to the plate
    state        TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    at_claimed   INTEGER,              -- what the sender said, when that was not believed
    received_at  INTEGER NOT NULL,
    replayed     INTEGER NOT NULL,
    recorded     TEXT    NOT NULL      -- what became of it
);
CREATE INDEX event_of_visit ON event (visit_id);
CREATE INDEX event_of_record ON event (record_tag) WHERE record_tag IS NOT NULL;

-- One lane per member. `due_at` is NULL while nothing waits or while a claim is out.
CREATE TABLE lane (
    member_id    INTEGER PRIMARY KEY REFERENCES member (id),
    circle_id    INTEGER NOT NULL REFERENCES circle (id),
    due_at       INTEGER,
    head_id      INTEGER,              -- the message that was tried and has to be tried again before any other
    node_id      INTEGER,              -- who has claimed it; NULL while it is free
    lease_until  INTEGER,              -- when the claim ends, by the clock of the store
    epoch        INTEGER NOT NULL DEFAULT 0,
    suspect_id   INTEGER,              -- a message whose sender lost the lane: it may still arrive, late
    suspect_plate BLOB                 -- the plate of that message
);
CREATE INDEX lane_due ON lane (circle_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX lane_claimed ON lane (lease_until) WHERE node_id IS NOT NULL;

-- The processes that work on this database. `seen_at` is by the clock of the store.
CREATE TABLE node (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL,       -- all, web or worker
    version    TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    ahead_ms   INTEGER NOT NULL DEFAULT 0, -- its clock minus that of the store
    in_flight  INTEGER NOT NULL DEFAULT 0,
    sent       INTEGER NOT NULL DEFAULT 0  -- calls since it started
);

-- What all nodes know of a merchant's way to WeChat Pay.
CREATE TABLE merchant (
    mchid        TEXT PRIMARY KEY,
    pace         REAL    NOT NULL DEFAULT 1, -- share of the configured rate, at `paced_at`; it grows back from there
    paced_at     INTEGER NOT NULL DEFAULT 0,
    shut_until   INTEGER NOT NULL DEFAULT 0,
    backup_since INTEGER               -- since when the backup domain is used; NULL: the main one
) WITHOUT ROWID;

-- The newest state of a plate that was sent for a member, or may have been. Written before the send.
CREATE TABLE told (
    member_id INTEGER NOT NULL REFERENCES member (id),
    plate_tag BLOB    NOT NULL,
    state     TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    was_state TEXT,                    -- what it was before, in case WeChat Pay refuses the newest one
    was_at    INTEGER,
    PRIMARY KEY (member_id, plate_tag)
) WITHOUT ROWID;

-- What pauses: the lanes of a circle, or of all circles of a merchant.
CREATE TABLE hold (
    scope    TEXT    NOT NULL,         -- 'circle' or 'merchant'
    name     TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    since    INTEGER NOT NULL,
    probes   INTEGER NOT NULL DEFAULT 0,
    probe_at INTEGER,                  -- NULL: a person holds it, and only a person releases it
    probing_until INTEGER NOT NULL DEFAULT 0, -- a probe is under way, and its claim ends then
    PRIMARY KEY (scope, name)
) WITHOUT ROWID;

CREATE TABLE delivery (
    id           INTEGER PRIMARY KEY,
    member_id    INTEGER NOT NULL REFERENCES member (id),
    event_id     INTEGER NOT NULL REFERENCES event (id),
    plate_tag    BLOB    NOT NULL,
    plate_sealed BLOB    NOT NULL,
    state        TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    cause        TEXT    NOT NULL,     -- crossing, late-bind, correction, cancellation, midnight, replay or reassertion
    not_before   INTEGER NOT NULL,
    enqueued_at  INTEGER NOT NULL,
    status       TEXT    NOT NULL,     -- waiting, held, delivered, dead, superseded or withdrawn
    reason       TEXT,
    tries        INTEGER NOT NULL DEFAULT 0,
    settled_at   INTEGER
);
-- A lane in its order. Only what waits is in here, so it stays small.
CREATE INDEX delivery_waiting ON delivery (member_id, at, id) WHERE status = 'waiting';
-- What people look for.
CREATE INDEX delivery_open ON delivery (status, id) WHERE status IN ('waiting', 'held', 'dead');
CREATE INDEX delivery_of_event ON delivery (event_id);

CREATE TABLE attempt (
    delivery_id INTEGER NOT NULL REFERENCES delivery (id),
    began_at    INTEGER NOT NULL,
    took_ms     INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    status      INTEGER,
    code        TEXT,
    request_id  TEXT,
    detail      TEXT                   -- WeChat Pay's message, or what broke
);
CREATE INDEX attempt_of_delivery ON attempt (delivery_id);

CREATE TABLE counter (
    name  TEXT    NOT NULL,
    scope TEXT    NOT NULL,
    word  TEXT    NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name, scope, word)
) WITHOUT ROWID;

-- One row per vault key: proves at start that the key file has every key that this database needs.
CREATE TABLE vault_check (number INTEGER PRIMARY KEY, sealed BLOB NOT NULL);

-- One row that is written to see whether the database can be written.
CREATE TABLE heartbeat (id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL);
