"""A database with an object of every kind that PostgreSQL has, and what tells two such databases apart."""

# ruff: noqa: S608  # the SQL of tests is made of their own names
from __future__ import annotations

import json
import subprocess

from tests.peers.postgres import PostgresServer

ROLES = """
    DO $$ BEGIN CREATE ROLE seller; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
    DO $$ BEGIN CREATE ROLE "Odd reader"; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
"""

EVERYTHING = (
    ROLES
    + r"""
    COMMENT ON SCHEMA public IS 'changed: 😀 '' \ "';
    CREATE SCHEMA sales AUTHORIZATION seller;
    GRANT USAGE ON SCHEMA sales TO "Odd reader";
    CREATE SCHEMA "odd schema.with a dot";

    -- extensions, and what they are used for
    CREATE EXTENSION citext; CREATE EXTENSION hstore SCHEMA sales; CREATE EXTENSION btree_gist;
    CREATE EXTENSION file_fdw; CREATE EXTENSION postgres_fdw; CREATE EXTENSION tablefunc;

    -- types of every kind, and what belongs to types
    CREATE TYPE state AS ENUM ('new', 'paid', '😀', 'it''s');
    CREATE TYPE address AS (street text, zip varchar(10));
    CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
    CREATE DOMAIN positive AS int DEFAULT 1 CHECK (VALUE > 0);
    COMMENT ON TYPE state IS 'of an order';
    CREATE TYPE complex;
    CREATE FUNCTION complex_in(cstring) RETURNS complex LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION complex_out(complex) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE complex (INPUT = complex_in, OUTPUT = complex_out, LIKE = text);
    CREATE COLLATION sales.by_bytes (provider = libc, locale = 'C');
    CREATE CONVERSION own_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

    -- functions, procedures, aggregates, operators, casts
    CREATE FUNCTION double(int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT $1 * 2';
    CREATE FUNCTION body() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN RETURN '$$;\ {} 😀'; END $f$;
    CREATE FUNCTION atomic(n int DEFAULT 3) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT n + 1; END;
    CREATE FUNCTION pair(OUT a int, OUT b text) RETURNS SETOF record LANGUAGE sql AS 'SELECT 1, ''x''';
    CREATE PROCEDURE work(n int) LANGUAGE plpgsql AS $f$ BEGIN COMMIT; END $f$;
    GRANT EXECUTE ON FUNCTION body() TO seller; REVOKE ALL ON FUNCTION double(int) FROM PUBLIC;
    CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
    CREATE FUNCTION near(float8, float8) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) < 0.1';
    CREATE OPERATOR === (LEFTARG = float8, RIGHTARG = float8, FUNCTION = near, COMMUTATOR = ===);
    CREATE OPERATOR FAMILY own_family USING btree;
    CREATE OPERATOR CLASS own_class FOR TYPE int USING btree FAMILY own_family AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);
    CREATE FUNCTION state_number(state) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length($1::text)';
    CREATE CAST (state AS int) WITH FUNCTION state_number(state) AS ASSIGNMENT;
    CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
    CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal),
        TO SQL WITH FUNCTION int4recv(internal));

    -- text search
    CREATE TEXT SEARCH DICTIONARY own_dict (TEMPLATE = pg_catalog.simple, STOPWORDS = 'english');
    CREATE TEXT SEARCH CONFIGURATION own_config (COPY = pg_catalog.simple);
    ALTER TEXT SEARCH CONFIGURATION own_config ALTER MAPPING FOR word WITH own_dict;
    CREATE TEXT SEARCH PARSER own_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
        LEXTYPES = prsd_lextype);
    CREATE TEXT SEARCH TEMPLATE own_template (INIT = dsimple_init, LEXIZE = dsimple_lexize);

    -- sequences and tables with all that a column can have
    CREATE SEQUENCE lonely START 7 INCREMENT 3 CYCLE MAXVALUE 100; SELECT nextval('lonely'), nextval('lonely');
    CREATE TABLE sales.customers (
        id int GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY,
        mail citext COLLATE "C" UNIQUE NOT NULL, name text COLLATE sales.by_bytes, more sales.hstore,
        home address, note text, since timestamptz DEFAULT '2026-01-01 UTC', bytes bytea, doc jsonb, xmldoc xml);
    INSERT INTO sales.customers (mail, name, more, home, note, bytes, doc) VALUES
        ('a@x', '😀 €', 'a=>1', ROW('Str. "1"', '0'), E'tab\t nl\n \\. back\\slash', '\x00ff0a0d5c', '{"😀": [1e400]}'),
        ('b@x', NULL, NULL, NULL, '', '', 'null');
    ALTER TABLE sales.customers ALTER note SET STORAGE EXTERNAL, ALTER note SET STATISTICS 500;
    COMMENT ON TABLE sales.customers IS 'who buys'; COMMENT ON COLUMN sales.customers.home IS E'where\nthey live';
    CREATE TABLE orders (
        id serial PRIMARY KEY, big bigserial, customer int REFERENCES sales.customers ON DELETE CASCADE DEFERRABLE,
        amount positive NOT NULL, twice int GENERATED ALWAYS AS (double(amount)) STORED, state state DEFAULT 'new',
        during tstzrange, tags text[] DEFAULT '{}', lonely int DEFAULT nextval('lonely'), drawing oid,
        CONSTRAINT sane CHECK (amount < 1000), EXCLUDE USING gist (during WITH &&)
    ) WITH (fillfactor = 70, autovacuum_enabled = off);
    INSERT INTO orders (customer, amount, tags) SELECT 100 + i % 2, i, ARRAY['a', NULL] FROM generate_series(1, 900) i;
    ALTER TABLE orders ADD CONSTRAINT later CHECK (big > 0) NOT VALID, ALTER COLUMN tags SET (n_distinct = 5);
    ALTER TABLE orders DROP COLUMN during, ADD COLUMN during tstzrange;
    CREATE INDEX by_state ON orders (state, double(amount) DESC NULLS LAST) WHERE amount > 3;
    CREATE UNIQUE INDEX covering ON orders (id) INCLUDE (state);
    CREATE INDEX by_tags ON orders USING gin (tags); COMMENT ON INDEX by_tags IS 'gin';
    ALTER TABLE orders CLUSTER ON covering; ALTER TABLE orders REPLICA IDENTITY FULL;
    CREATE STATISTICS together (dependencies, ndistinct) ON customer, state FROM orders;
    ALTER STATISTICS together SET STATISTICS 300;
    GRANT SELECT (id), UPDATE (state) ON orders TO "Odd reader"; GRANT ALL ON orders TO seller WITH GRANT OPTION;
    SELECT setval('orders_big_seq', 5000); GRANT USAGE ON SEQUENCE orders_id_seq TO seller;

    -- partitions, inheritance, unlogged, odd names, no columns, of a type, another access method
    CREATE TABLE events (id int, day date, what text) PARTITION BY RANGE (day);
    CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE sales.events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
        PARTITION BY HASH (id);
    CREATE TABLE events_2026_0 PARTITION OF sales.events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE events_2026_1 PARTITION OF sales.events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE events_rest PARTITION OF events DEFAULT;
    ALTER TABLE events ADD PRIMARY KEY (id, day); CREATE INDEX ON events (what);
    INSERT INTO events SELECT i, '2025-06-01'::date + i, 'w' || i FROM generate_series(1, 900) i;
    CREATE TABLE animals (name text, legs int DEFAULT 4); CREATE TABLE birds (wings int) INHERITS (animals);
    INSERT INTO animals VALUES ('dog'); INSERT INTO birds VALUES ('owl', 2, 2);
    CREATE UNLOGGED TABLE cache (key text PRIMARY KEY, value text); INSERT INTO cache VALUES ('k', 'v');
    CREATE TABLE "odd schema.with a dot"."a ""table"" ; --" ("col ""umn" text, "ü" int, "select" int);
    INSERT INTO "odd schema.with a dot"."a ""table"" ; --" VALUES (E'$$ \\N', 1, NULL);
    CREATE TABLE "new
line" (n int); CREATE TABLE nothing (); CREATE TABLE of_type OF address (PRIMARY KEY (zip));
    CREATE TABLE other_heap (n int) USING own_heap; INSERT INTO other_heap VALUES (1);
    INSERT INTO "new
line" VALUES (7);

    -- views on views, materialized ones, rules, triggers, policies
    CREATE VIEW paid AS SELECT * FROM orders WHERE state = 'paid';
    CREATE VIEW dear WITH (security_barrier) AS SELECT id, amount FROM paid WHERE amount > 5 WITH LOCAL CHECK OPTION;
    CREATE RECURSIVE VIEW counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 3;
    CREATE MATERIALIZED VIEW by_customer AS SELECT customer, count(*) AS n FROM orders GROUP BY 1;
    CREATE UNIQUE INDEX ON by_customer (customer);
    CREATE MATERIALIZED VIEW of_that AS SELECT sum(n) FROM by_customer WITH NO DATA;
    CREATE RULE never AS ON DELETE TO orders WHERE OLD.amount = 1 DO INSTEAD NOTHING;
    CREATE RULE through AS ON INSERT TO dear DO INSTEAD INSERT INTO orders (amount) VALUES (NEW.amount);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $f$ BEGIN NEW.note := NEW.note || '!'; RETURN NEW; END $f$;
    CREATE TRIGGER touched BEFORE UPDATE OF note ON sales.customers FOR EACH ROW
        WHEN (OLD.note IS DISTINCT FROM NEW.note) EXECUTE FUNCTION touch();
    CREATE FUNCTION nop() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NULL; END $f$;
    CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        EXECUTE FUNCTION nop();
    CREATE TRIGGER statement AFTER TRUNCATE ON orders EXECUTE FUNCTION nop();
    ALTER TABLE orders DISABLE TRIGGER statement;
    CREATE TRIGGER of_partitions AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION nop();
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON orders AS RESTRICTIVE FOR UPDATE TO seller USING (customer > 0) WITH CHECK (amount > 1);
    COMMENT ON POLICY own ON orders IS 'policy'; COMMENT ON TRIGGER touched ON sales.customers IS 'trigger';

    -- of the whole database: large objects, foreign data, publications, subscriptions, event triggers, defaults
    SELECT lo_from_bytea(424242, decode(repeat('00ff5c2e0a', 5000), 'hex')); SELECT lo_from_bytea(424243, '');
    COMMENT ON LARGE OBJECT 424242 IS 'large'; GRANT SELECT ON LARGE OBJECT 424242 TO seller;
    UPDATE orders SET drawing = 424242 WHERE id = 1;
    CREATE FOREIGN DATA WRAPPER own_wrapper OPTIONS (a 'b');
    CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
    CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname 'nosuch');
    CREATE USER MAPPING FOR seller SERVER elsewhere OPTIONS (user 'x');
    GRANT USAGE ON FOREIGN SERVER elsewhere TO seller;
    CREATE FOREIGN TABLE words (word text OPTIONS (force_not_null 'true')) SERVER files
        OPTIONS (filename '/etc/passwd', format 'text', delimiter E'\x01');
    CREATE PUBLICATION columns FOR TABLE orders (id, state) WHERE (id > 5);
    CREATE PUBLICATION schemas FOR TABLES IN SCHEMA sales;
    CREATE PUBLICATION every FOR ALL TABLES WITH (publish = 'insert');
    CREATE SUBSCRIPTION from_nowhere CONNECTION 'host=127.0.0.1 dbname=nosuch' PUBLICATION columns
        WITH (connect = false, slot_name = NONE);
    CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM 1; END $f$;
    CREATE EVENT TRIGGER watching ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION on_ddl();
    CREATE EVENT TRIGGER silent ON sql_drop EXECUTE FUNCTION on_ddl(); ALTER EVENT TRIGGER silent DISABLE;
    ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO "Odd reader";
    ALTER DEFAULT PRIVILEGES FOR ROLE seller REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    CREATE FUNCTION own_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
    CREATE LANGUAGE own_language HANDLER own_handler;
    ALTER TABLE animals OWNER TO seller; ALTER FUNCTION body() OWNER TO seller; ALTER TYPE span OWNER TO seller;
    """
)

KINDS = {
    *("access method", "aggregate", "cast", "collation", "conversion", "default acl", "default value"),
    *("domain constraint", "event trigger", "extension", "foreign table", "foreign-data wrapper", "function", "index"),
    *("language", "large object", "materialized view", "operator", "operator class", "operator family", "policy"),
    *("procedure", "publication", "publication namespace", "publication relation", "rule", "schema", "sequence"),
    *("server", "statistics object", "subscription", "table", "table constraint", "text search configuration"),
    *("text search dictionary", "text search parser", "text search template", "transform", "trigger", "type"),
    *("user mapping", "view"),
}
"""What PostgreSQL calls the kinds of objects that a database can hold."""

_CATALOGS = (
    *("pg_am", "pg_attrdef", "pg_cast", "pg_class", "pg_collation", "pg_constraint", "pg_conversion"),
    *("pg_default_acl", "pg_event_trigger", "pg_extension", "pg_foreign_data_wrapper", "pg_foreign_server"),
    *("pg_language", "pg_namespace", "pg_opclass", "pg_operator", "pg_opfamily", "pg_policy", "pg_proc"),
    *("pg_publication", "pg_publication_namespace", "pg_publication_rel", "pg_rewrite", "pg_statistic_ext"),
    *("pg_subscription", "pg_transform", "pg_trigger", "pg_ts_config", "pg_ts_dict", "pg_ts_parser"),
    *("pg_ts_template", "pg_type", "pg_user_mapping", "pg_largeobject_metadata"),
)


def objects(server: PostgresServer, database: str) -> dict[str, list[str]]:
    """The names of all objects of the user, by kind, from the catalogs: pg_dump has no part in it."""
    every = " UNION ALL ".join(
        f"SELECT '{'pg_largeobject' if name == 'pg_largeobject_metadata' else name}'::regclass::oid AS class, oid"
        f" FROM {name} WHERE oid >= 16384"
        for name in _CATALOGS
    )
    found = server.sql(
        f"""SELECT coalesce(json_agg(json_build_array(o.type, o.identity) ORDER BY o.type, o.identity), '[]')
        FROM ({every}) e, LATERAL pg_identify_object(e.class, e.oid, 0) o
        WHERE o.identity !~ 'pg_toast|RI_ConstraintTrigger'
          AND (e.class <> 'pg_subscription'::regclass OR (SELECT subdbid FROM pg_subscription s WHERE s.oid = e.oid)
               = (SELECT oid FROM pg_database WHERE datname = current_database()))""",
        database,
    )
    by_kind: dict[str, list[str]] = {}
    for kind, identity in json.loads(found):
        by_kind.setdefault(kind, []).append(identity)
    return by_kind


def large_objects(server: PostgresServer, database: str) -> str:
    return server.sql("SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid", database)


def definitions(server: PostgresServer, database: str, *options: str) -> list[str]:
    """How pg_dump would make all of it again: every property of every object."""
    where = ["-h", server.host, "-p", str(server.port), "-U", server.admin, "--dbname", database]
    argv = [str(server.bin / "pg_dump"), "--schema-only", *options, *where]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PGPASSWORD": server.password}, check=True)
    noise = ("\\restrict", "\\unrestrict")
    return [line for line in done.stdout.splitlines() if not line.startswith(noise)]
