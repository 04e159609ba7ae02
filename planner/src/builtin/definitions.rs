//! Columns of the built-in relations.
//!
//! A relation is a line `oid kind name` (kind as in `pg_class.relkind`) followed by indented lines of `column type`; `?` after the type
//! allows NULL. Relations and columns of `pg_catalog` and `information_schema` are those of PostgreSQL 15, their order and OIDs included, with
//! types we have instead of those that only PostgreSQL has (`text` for `pg_node_tree`, for example). Relations whose OID PostgreSQL does
//! not fix have one from 12000 on.

pub(super) const PG_CATALOG: &str = "
2601 r pg_am
    oid oid, amname name, amhandler regproc, amtype char
2602 r pg_amop
    oid oid, amopfamily oid, amoplefttype oid, amoprighttype oid, amopstrategy int2, amoppurpose char, amopopr oid,
    amopmethod oid, amopsortfamily oid
2603 r pg_amproc
    oid oid, amprocfamily oid, amproclefttype oid, amprocrighttype oid, amprocnum int2, amproc regproc
2604 r pg_attrdef
    oid oid, adrelid oid, adnum int2, adbin text
1249 r pg_attribute
    attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, attndims int4, attcacheoff int4,
    atttypmod int4, attbyval bool, attalign char, attstorage char, attcompression char, attnotnull bool, atthasdef bool,
    atthasmissing bool, attidentity char, attgenerated char, attisdropped bool, attislocal bool, attinhcount int4,
    attcollation oid, attacl _text?, attoptions _text?, attfdwoptions _text?, attmissingval text?
1261 r pg_auth_members
    roleid oid, member oid, grantor oid, admin_option bool
2605 r pg_cast
    oid oid, castsource oid, casttarget oid, castfunc oid, castcontext char, castmethod char
1259 r pg_class
    oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, relfilenode oid,
    reltablespace oid, relpages int4, reltuples float4, relallvisible int4, reltoastrelid oid, relhasindex bool, relisshared bool,
    relpersistence char, relkind char, relnatts int2, relchecks int2, relhasrules bool, relhastriggers bool, relhassubclass bool,
    relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident char, relispartition bool, relrewrite oid,
    relfrozenxid xid, relminmxid xid, relacl _text?, reloptions _text?, relpartbound text?
3456 r pg_collation
    oid oid, collname name, collnamespace oid, collowner oid, collprovider char, collisdeterministic bool, collencoding int4,
    collcollate text?, collctype text?, colliculocale text?, collversion text?
2606 r pg_constraint
    oid oid, conname name, connamespace oid, contype char, condeferrable bool, condeferred bool, convalidated bool, conrelid oid,
    contypid oid, conindid oid, conparentid oid, confrelid oid, confupdtype char, confdeltype char, confmatchtype char,
    conislocal bool, coninhcount int4, connoinherit bool, conkey _int2?, confkey _int2?, conpfeqop _oid?, conppeqop _oid?,
    conffeqop _oid?, confdelsetcols _int2?, conexclop _oid?, conbin text?
2607 r pg_conversion
    oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, contoencoding int4, conproc regproc,
    condefault bool
1262 r pg_database
    oid oid, datname name, datdba oid, encoding int4, datlocprovider char, datistemplate bool, datallowconn bool,
    datconnlimit int4, datfrozenxid xid, datminmxid xid, dattablespace oid, datcollate text, datctype text, daticulocale text?,
    datcollversion text?, datacl _text?
2964 r pg_db_role_setting
    setdatabase oid, setrole oid, setconfig _text?
826 r pg_default_acl
    oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype char, defaclacl _text
2608 r pg_depend
    classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype char
2609 r pg_description
    objoid oid, classoid oid, objsubid int4, description text
3501 r pg_enum
    oid oid, enumtypid oid, enumsortorder float4, enumlabel name
3466 r pg_event_trigger
    oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled char, evttags _text?
3079 r pg_extension
    oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text, extconfig _oid?,
    extcondition _text?
2328 r pg_foreign_data_wrapper
    oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl _text?, fdwoptions _text?
1417 r pg_foreign_server
    oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text?, srvversion text?, srvacl _text?, srvoptions _text?
3118 r pg_foreign_table
    ftrelid oid, ftserver oid, ftoptions _text?
2610 r pg_index
    indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, indnullsnotdistinct bool, indisprimary bool,
    indisexclusion bool, indimmediate bool, indisclustered bool, indisvalid bool, indcheckxmin bool, indisready bool,
    indislive bool, indisreplident bool, indkey int2vector, indcollation oidvector, indclass oidvector, indoption int2vector,
    indexprs text?, indpred text?
12001 v pg_indexes
    schemaname name?, tablename name?, indexname name?, tablespace name?, indexdef text?
2611 r pg_inherits
    inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool
3394 r pg_init_privs
    objoid oid, classoid oid, objsubid int4, privtype char, initprivs _text
2612 r pg_language
    oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, laninline oid, lanvalidator oid,
    lanacl _text?
2995 r pg_largeobject_metadata
    oid oid, lomowner oid, lomacl _text?
12002 v pg_matviews
    schemaname name?, matviewname name?, matviewowner name?, tablespace name?, hasindexes bool?, ispopulated bool?,
    definition text?
2615 r pg_namespace
    oid oid, nspname name, nspowner oid, nspacl _text?
2616 r pg_opclass
    oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid, opcdefault bool,
    opckeytype oid
2617 r pg_operator
    oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind char, oprcanmerge bool, oprcanhash bool, oprleft oid,
    oprright oid, oprresult oid, oprcom oid, oprnegate oid, oprcode regproc, oprrest regproc, oprjoin regproc
2753 r pg_opfamily
    oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid
6243 r pg_parameter_acl
    oid oid, parname text, paracl _text?
3350 r pg_partitioned_table
    partrelid oid, partstrat char, partnatts int2, partdefid oid, partattrs int2vector, partclass oidvector,
    partcollation oidvector, partexprs text?
12003 v pg_policies
    schemaname name?, tablename name?, policyname name?, permissive text?, roles _name?, cmd text?, qual text?, with_check text?
3256 r pg_policy
    oid oid, polname name, polrelid oid, polcmd char, polpermissive bool, polroles _oid, polqual text?, polwithcheck text?
1255 r pg_proc
    oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4, provariadic oid,
    prosupport regproc, prokind char, prosecdef bool, proleakproof bool, proisstrict bool, proretset bool, provolatile char,
    proparallel char, pronargs int2, pronargdefaults int2, prorettype oid, proargtypes oidvector, proallargtypes _oid?,
    proargmodes _char?, proargnames _text?, proargdefaults text?, protrftypes _oid?, prosrc text, probin text?, prosqlbody text?,
    proconfig _text?, proacl _text?
6104 r pg_publication
    oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool, pubtruncate bool,
    pubviaroot bool
6237 r pg_publication_namespace
    oid oid, pnpubid oid, pnnspid oid
6106 r pg_publication_rel
    oid oid, prpubid oid, prrelid oid, prqual text?, prattrs int2vector?
3541 r pg_range
    rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, rngcanonical regproc, rngsubdiff regproc
2618 r pg_rewrite
    oid oid, rulename name, ev_class oid, ev_type char, ev_enabled char, is_instead bool, ev_qual text, ev_action text
12004 v pg_roles
    rolname name?, rolsuper bool?, rolinherit bool?, rolcreaterole bool?, rolcreatedb bool?, rolcanlogin bool?,
    rolreplication bool?, rolconnlimit int4?, rolpassword text?, rolvaliduntil timestamptz?, rolbypassrls bool?, rolconfig _text?,
    oid oid?
12005 v pg_rules
    schemaname name?, tablename name?, rulename name?, definition text?
3596 r pg_seclabel
    objoid oid, classoid oid, objsubid int4, provider text, label text
12006 v pg_seclabels
    objoid oid?, classoid oid?, objsubid int4?, objtype text?, objnamespace oid?, objname text?, provider text?, label text?
2224 r pg_sequence
    seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8, seqcycle bool
12007 v pg_sequences
    schemaname name?, sequencename name?, sequenceowner name?, data_type regtype?, start_value int8?, min_value int8?,
    max_value int8?, increment_by int8?, cycle bool?, cache_size int8?, last_value int8?
12008 v pg_settings
    name text?, setting text?, unit text?, category text?, short_desc text?, extra_desc text?, context text?, vartype text?,
    source text?, min_val text?, max_val text?, enumvals _text?, boot_val text?, reset_val text?, sourcefile text?,
    sourceline int4?, pending_restart bool?
1214 r pg_shdepend
    dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype char
2396 r pg_shdescription
    objoid oid, classoid oid, description text
3592 r pg_shseclabel
    objoid oid, classoid oid, provider text, label text
12009 v pg_stat_activity
    datid oid?, datname name?, pid int4?, leader_pid int4?, usesysid oid?, usename name?, application_name text?,
    client_addr text?, client_hostname text?, client_port int4?, backend_start timestamptz?, xact_start timestamptz?,
    query_start timestamptz?, state_change timestamptz?, wait_event_type text?, wait_event text?, state text?, backend_xid xid?,
    backend_xmin xid?, query_id int8?, query text?, backend_type text?
12010 v pg_stat_user_indexes
    relid oid?, indexrelid oid?, schemaname name?, relname name?, indexrelname name?, idx_scan int8?, idx_tup_read int8?,
    idx_tup_fetch int8?
3381 r pg_statistic_ext
    oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, stxkeys int2vector, stxkind _char,
    stxexprs text?
6100 r pg_subscription
    oid oid, subdbid oid, subskiplsn text, subname name, subowner oid, subenabled bool, subbinary bool, substream bool,
    subtwophasestate char, subdisableonerr bool, subconninfo text, subslotname name?, subsynccommit text, subpublications _text
6102 r pg_subscription_rel
    srsubid oid, srrelid oid, srsubstate char, srsublsn text?
12011 v pg_tables
    schemaname name?, tablename name?, tableowner name?, tablespace name?, hasindexes bool?, hasrules bool?, hastriggers bool?,
    rowsecurity bool?
1213 r pg_tablespace
    oid oid, spcname name, spcowner oid, spcacl _text?, spcoptions _text?
3576 r pg_transform
    oid oid, trftype oid, trflang oid, trffromsql regproc, trftosql regproc
2620 r pg_trigger
    oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled char, tgisinternal bool,
    tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2,
    tgattr int2vector, tgargs bytea, tgqual text?, tgoldtable name?, tgnewtable name?
3602 r pg_ts_config
    oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid
3600 r pg_ts_dict
    oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid, dictinitoption text?
3601 r pg_ts_parser
    oid oid, prsname name, prsnamespace oid, prsstart regproc, prstoken regproc, prsend regproc, prsheadline regproc,
    prslextype regproc
3764 r pg_ts_template
    oid oid, tmplname name, tmplnamespace oid, tmplinit regproc, tmpllexize regproc
1247 r pg_type
    oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype char, typcategory char,
    typispreferred bool, typisdefined bool, typdelim char, typrelid oid, typsubscript regproc, typelem oid, typarray oid,
    typinput regproc, typoutput regproc, typreceive regproc, typsend regproc, typmodin regproc, typmodout regproc,
    typanalyze regproc, typalign char, typstorage char, typnotnull bool, typbasetype oid, typtypmod int4, typndims int4,
    typcollation oid, typdefaultbin text?, typdefault text?, typacl _text?
12012 v pg_user
    usename name?, usesysid oid?, usecreatedb bool?, usesuper bool?, userepl bool?, usebypassrls bool?, passwd text?,
    valuntil timestamptz?, useconfig _text?
1418 r pg_user_mapping
    oid oid, umuser oid, umserver oid, umoptions _text?
12013 v pg_views
    schemaname name?, viewname name?, viewowner name?, definition text?
";

pub(super) const INFORMATION_SCHEMA: &str = "
12101 v check_constraints
    constraint_catalog name?, constraint_schema name?, constraint_name name?, check_clause varchar?
12102 v columns
    table_catalog name?, table_schema name?, table_name name?, column_name name?, ordinal_position int4?, column_default varchar?,
    is_nullable varchar?, data_type varchar?, character_maximum_length int4?, character_octet_length int4?,
    numeric_precision int4?, numeric_precision_radix int4?, numeric_scale int4?, datetime_precision int4?, interval_type varchar?,
    interval_precision int4?, character_set_catalog name?, character_set_schema name?, character_set_name name?,
    collation_catalog name?, collation_schema name?, collation_name name?, domain_catalog name?, domain_schema name?,
    domain_name name?, udt_catalog name?, udt_schema name?, udt_name name?, scope_catalog name?, scope_schema name?,
    scope_name name?, maximum_cardinality int4?, dtd_identifier name?, is_self_referencing varchar?, is_identity varchar?,
    identity_generation varchar?, identity_start varchar?, identity_increment varchar?, identity_maximum varchar?,
    identity_minimum varchar?, identity_cycle varchar?, is_generated varchar?, generation_expression varchar?,
    is_updatable varchar?
12103 v constraint_column_usage
    table_catalog name?, table_schema name?, table_name name?, column_name name?, constraint_catalog name?,
    constraint_schema name?, constraint_name name?
12104 v key_column_usage
    constraint_catalog name?, constraint_schema name?, constraint_name name?, table_catalog name?, table_schema name?,
    table_name name?, column_name name?, ordinal_position int4?, position_in_unique_constraint int4?
12105 v referential_constraints
    constraint_catalog name?, constraint_schema name?, constraint_name name?, unique_constraint_catalog name?,
    unique_constraint_schema name?, unique_constraint_name name?, match_option varchar?, update_rule varchar?,
    delete_rule varchar?
12106 v schemata
    catalog_name name?, schema_name name?, schema_owner name?, default_character_set_catalog name?,
    default_character_set_schema name?, default_character_set_name name?, sql_path varchar?
12107 v sequences
    sequence_catalog name?, sequence_schema name?, sequence_name name?, data_type varchar?, numeric_precision int4?,
    numeric_precision_radix int4?, numeric_scale int4?, start_value varchar?, minimum_value varchar?, maximum_value varchar?,
    increment varchar?, cycle_option varchar?
12108 v table_constraints
    constraint_catalog name?, constraint_schema name?, constraint_name name?, table_catalog name?, table_schema name?,
    table_name name?, constraint_type varchar?, is_deferrable varchar?, initially_deferred varchar?, enforced varchar?,
    nulls_distinct varchar?
12109 v tables
    table_catalog name?, table_schema name?, table_name name?, table_type varchar?, self_referencing_column_name name?,
    reference_generation varchar?, user_defined_type_catalog name?, user_defined_type_schema name?, user_defined_type_name name?,
    is_insertable_into varchar?, is_typed varchar?, commit_action varchar?
12110 v triggers
    trigger_catalog name?, trigger_schema name?, trigger_name name?, event_manipulation varchar?, event_object_catalog name?,
    event_object_schema name?, event_object_table name?, action_order int4?, action_condition varchar?, action_statement varchar?,
    action_orientation varchar?, action_timing varchar?, action_reference_old_table name?, action_reference_new_table name?,
    action_reference_old_row name?, action_reference_new_row name?, created timestamptz?
12111 v views
    table_catalog name?, table_schema name?, table_name name?, view_definition varchar?, check_option varchar?,
    is_updatable varchar?, is_insertable_into varchar?, is_trigger_updatable varchar?, is_trigger_deletable varchar?,
    is_trigger_insertable_into varchar?
";

pub(super) const MZ_CATALOG: &str = "
12201 r mz_clusters
    id int8, name text, workers int4, memory_limit_bytes int8?
12202 r mz_cluster_replicas
    id int8, cluster_id int8, name text, node_id int8?
12203 r mz_objects
    id text, oid oid, schema_id oid, name text, type text, owner_id oid, cluster_id int8?
12204 r mz_materialized_views
    id text, oid oid, schema_id oid, name text, cluster_id int8, definition text, owner_id oid, create_sql text
12205 r mz_indexes
    id text, oid oid, name text, on_id text, cluster_id int8, owner_id oid, create_sql text
12206 r mz_sources
    id text, oid oid, schema_id oid, name text, type text, cluster_id int8, owner_id oid, create_sql text
12207 r mz_frontiers
    object_id text, cluster_id int8?, read_frontier mz_timestamp?, write_frontier mz_timestamp?
12208 r mz_nodes
    id int8, mesh_addr text, sql_addr text, http_addr text, status text, incarnation int8, version text
";

pub(super) const MZ_INTERNAL: &str = "
12251 r mz_cluster_voters
    cluster_id int8, incarnation int8, node_id int8
12252 r mz_input_holds
    cluster_id int8, incarnation int8, object_id text, frontier mz_timestamp
12253 r mz_leases
    node_id int8, incarnation int8, frontier mz_timestamp
12254 r mz_join_tokens
    id text, expires_at timestamptz?, used_by int8?
12255 r mz_node_liveness
    node_id int8, role text, reachable bool, silent_seconds float8?, round_trip_seconds float8?, applied_index int8?
12256 r mz_groups
    name text, cluster_id int8?, incarnation int8?, leader int8?, term int8, voters _int8, members _int8, last_index int8?,
    committed_index int8?, applied_index int8?
12257 r mz_mesh_links
    node_id int8, lane text, connected bool, round_trip_seconds float8?, bytes_sent int8, bytes_received int8, requests_sent int8,
    requests_failed int8, requests_received int8, connects int8, in_flight int8, queued_bytes int8, last_error text?
12258 r mz_cluster_leaders
    cluster_id int8, node_id int8, incarnation int8, term int8
12259 r mz_replica_statuses
    replica_id int8, cluster_id int8, node_id int8, ready bool
";
