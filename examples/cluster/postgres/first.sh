#!/bin/sh
# Once, when the database is made: the roles and the database. Local: no standby is there yet that a commit could wait for.
set -e
export PGOPTIONS='-c synchronous_commit=local'
psql -v ON_ERROR_STOP=1 -U postgres \
  -v replica="$(cat /run/secrets/replica_password)" -v parksync="$(cat /run/secrets/database_password)" <<'SQL'
CREATE ROLE replica LOGIN REPLICATION PASSWORD :'replica';
CREATE ROLE parksync LOGIN PASSWORD :'parksync';
GRANT pg_read_all_stats TO parksync;
CREATE DATABASE parksync OWNER parksync ENCODING 'UTF8';
SQL
