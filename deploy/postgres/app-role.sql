-- The role `svops_app` for web, worker and beat: it can do everything but change or delete rows of the audit trail.
-- Run it with psql as the owner of the tables, after each `manage.py migrate`, which the owner runs too.
GRANT USAGE ON SCHEMA public TO svops_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO svops_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO svops_app;
REVOKE ALL ON accounts_auditentry, accounts_audithead, django_migrations FROM svops_app;
GRANT SELECT ON django_migrations TO svops_app;
GRANT SELECT, INSERT, UPDATE (position, hash) ON accounts_auditentry TO svops_app;
GRANT SELECT, INSERT, UPDATE ON accounts_audithead TO svops_app;
