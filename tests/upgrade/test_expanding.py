"""What counts as an expansion, and what the previous release would notice."""

import pytest
from expanding import noticed

HARMLESS = [
    "CREATE TABLE lamps (\n  id UUID NOT NULL,\n  CONSTRAINT pk_lamps PRIMARY KEY (id)\n)",
    "ALTER TABLE jobs ADD COLUMN traceparent TEXT",
    "ALTER TABLE jobs ADD COLUMN tries INTEGER DEFAULT '0' NOT NULL",
    "ALTER TABLE jobs ADD COLUMN a TEXT, ADD COLUMN b NUMERIC(3, 1) DEFAULT '0' NOT NULL",
    "ALTER TABLE jobs ALTER COLUMN host DROP NOT NULL",
    "ALTER TABLE jobs ALTER COLUMN tries SET DEFAULT 3",
    "ALTER TABLE jobs VALIDATE CONSTRAINT ck_jobs_phase",
    "CREATE INDEX CONCURRENTLY ix_jobs_host ON jobs (host)",
    "INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING alembic_version.version_num",
    "UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001'",
    "create function f() returns trigger language plpgsql as $$ begin raise 'no'; end $$",
]
NOTICED = {
    "ALTER TABLE jobs DROP COLUMN host": "dropped, renamed or changed",
    "ALTER TABLE jobs RENAME host TO node": "dropped, renamed or changed",
    "ALTER TABLE jobs RENAME TO tasks": "dropped, renamed or changed",
    "ALTER TABLE jobs ALTER COLUMN number TYPE BIGINT": "dropped, renamed or changed",
    "ALTER TABLE jobs ALTER COLUMN host SET NOT NULL": "dropped, renamed or changed",
    "ALTER TABLE jobs ALTER COLUMN tries DROP DEFAULT": "dropped, renamed or changed",
    "ALTER TABLE jobs ADD COLUMN a TEXT, DROP COLUMN b": "dropped, renamed or changed",
    "ALTER TABLE jobs ADD COLUMN tries INTEGER NOT NULL": "must be given",
    "ALTER TABLE jobs ADD COLUMN at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL": "row to row",
    "ALTER TABLE jobs ADD COLUMN n BIGINT GENERATED ALWAYS AS IDENTITY": "row to row",
    "ALTER TABLE jobs ADD COLUMN owner UUID REFERENCES people (id)": "new constraint",
    "ALTER TABLE jobs ADD CONSTRAINT ck_jobs_n CHECK (n > 0) NOT VALID": "new constraint",
    "ALTER TABLE jobs ADD CONSTRAINT uq_jobs_n UNIQUE (n)": "new constraint",
    "ALTER TABLE jobs DROP CONSTRAINT uq_jobs_n": "may rely on",
    "CREATE UNIQUE INDEX CONCURRENTLY uq_jobs_n ON jobs (n)": "unique index",
    "CREATE INDEX ix_jobs_host ON jobs (host)": "without `concurrently`",
    "CREATE TRIGGER t BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION f()": "a trigger",
    "DROP TABLE jobs": "not known",
    "DROP INDEX ix_jobs_host": "not known",
    "UPDATE jobs SET host = ''": "not known",
    "TRUNCATE jobs": "not known",
    "-- a word\nDELETE FROM jobs": "not known",
    'ALTER TABLE trainer."jobs" DROP COLUMN host': "dropped, renamed or changed",
}


@pytest.mark.parametrize("statement", HARMLESS)
def test_what_adds_is_an_expansion(statement: str) -> None:
    assert noticed([statement]) == []


@pytest.mark.parametrize("statement", NOTICED)
def test_what_takes_away_or_narrows_is_none(statement: str) -> None:
    assert [why for why in noticed([statement]) if NOTICED[statement] in why]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE UNIQUE INDEX uq_lamps_n ON lamps (n)",
        "CREATE INDEX ix_lamps_n ON lamps (n)",
        "CREATE TRIGGER t BEFORE UPDATE ON lamps FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE lamps ADD CONSTRAINT ck_lamps_n CHECK (n > 0)",
    ],
)
def test_a_table_of_the_same_revision_is_nobody_elses(statement: str) -> None:
    assert noticed(["CREATE TABLE lamps (n INTEGER)", statement]) == []
    assert noticed([statement])


def test_a_check_is_replaced_by_one_that_old_rows_are_not_read_for() -> None:
    dropped = "ALTER TABLE jobs DROP CONSTRAINT ck_jobs_phase"
    added = "ALTER TABLE jobs ADD CONSTRAINT ck_jobs_phase CHECK (phase IN ('a', 'b'))"
    assert noticed([dropped, f"{added} NOT VALID"]) == []
    assert len(noticed([dropped, added])) == 1
