#!/bin/sh
# Runs once, as PostgreSQL makes its data. The owner of the tables migrates; everything else connects as a role that
# owns nothing and cannot pass by row-level security; for what concerns several tenants as another, which may see them.
set -eu
psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
    --set owner_password="$OWNER_PASSWORD" --set app_password="$APP_PASSWORD" \
    --set platform_password="$PLATFORM_PASSWORD" <<'SQL'
CREATE ROLE steerwise_owner LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB PASSWORD :'owner_password';
CREATE ROLE steerwise_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB PASSWORD :'app_password';
CREATE ROLE steerwise_platform LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB PASSWORD :'platform_password';
CREATE DATABASE steerwise OWNER steerwise_owner;
SQL
