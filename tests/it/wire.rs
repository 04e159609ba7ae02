//! The wire: what no driver would send. Lengths are checked before anything is allocated; the server outlives all of it.

use std::time::Duration;

use harness::wire::{Raw, cstr, frame, framed_as, startup};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::node::{Node, column, run};

/// How long a fuzzed connection may stay silent before the next one is tried.
const QUIET: Duration = Duration::from_millis(30);

/// The server still answers a new session.
fn lives(node: &mut Node, what: &str) {
    assert!(
        node.server.is_alive(),
        "the server died of {what}\n{}",
        node.server.output()
    );
    run(async {
        assert_eq!(
            column(&node.sql().await, "select 1").await,
            "1",
            "after {what}"
        )
    });
}

/// A seed from `FUZZ_SEED`, or a fresh one; printed, so that a failure can be replayed.
fn seed() -> u64 {
    let seed = std::env::var("FUZZ_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("replay with FUZZ_SEED={seed} cargo test -p clusterd --test it wire");
    seed
}

#[test]
fn malformed_startup_packets_are_survived() {
    let mut node = Node::start();
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut packets: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 4],
        vec![0, 0, 0, 8, 0, 3, 0, 0],
        vec![0xFF, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0],
        vec![0x7F, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0],
        [
            &8_u32.to_be_bytes()[..],
            &80_877_103_u32.to_be_bytes()[..],
            &8_u32.to_be_bytes()[..],
        ]
        .concat(),
        [
            &12_u32.to_be_bytes()[..],
            &80_877_102_u32.to_be_bytes()[..],
            &[0; 4][..],
        ]
        .concat(),
        [&8_u32.to_be_bytes()[..], &(99_u32 << 16).to_be_bytes()[..]].concat(),
        startup(&[]),
        startup(&[("user", "")]),
        startup(&[
            ("user", "clusterd"),
            ("database", "\u{0}"),
            ("options", "-c nosuch=1"),
        ]),
        startup(&[("user", &"x".repeat(100_000))]),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    let good = startup(&[("user", "clusterd"), ("database", "clusterd")]);
    packets.extend((0..good.len()).step_by(3).map(|n| good[..n].to_vec()));
    packets.extend((0..60).map(|_| random_bytes(&mut rng, 64)));
    for packet in packets {
        let mut raw = Raw::open(node.server.sql_addr()).expect("a connection");
        let _ = raw.bytes(&packet);
        let _ = raw.half_close();
        raw.drain(QUIET);
    }
    lives(
        &mut node,
        &format!("malformed startup packets, seed {seed}"),
    );
}

#[test]
fn malformed_messages_in_a_session_are_survived() {
    let mut node = Node::start();
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let before = node.server.resident_bytes().expect("resident memory");
    for round in 0..150 {
        let Ok(mut raw) = Raw::session(node.server.sql_addr()) else {
            panic!("no session in round {round}, seed {seed}")
        };
        for _ in 0..rng.random_range(1..6) {
            let message = bad_message(&mut rng);
            if raw.bytes(&message).is_err() {
                break;
            }
        }
        if rng.random_bool(0.5) {
            let _ = raw.bytes(&frame(b'S', &[]));
        }
        let _ = raw.half_close();
        raw.drain(QUIET);
    }
    let grown = node
        .server
        .resident_bytes()
        .expect("resident memory")
        .saturating_sub(before);
    assert!(
        grown < 512 << 20,
        "malformed messages cost {grown} bytes, seed {seed}"
    );
    lives(&mut node, &format!("malformed messages, seed {seed}"));
}

fn random_bytes(rng: &mut StdRng, max: usize) -> Vec<u8> {
    (0..rng.random_range(0..=max))
        .map(|_| rng.random())
        .collect()
}

/// One message that is wrong in some way: its tag, its length, its body, or all of them.
fn bad_message(rng: &mut StdRng) -> Vec<u8> {
    const TAGS: &[u8] = b"QPBEDSCHXFdcfp";
    let tag = if rng.random_bool(0.8) {
        TAGS[rng.random_range(0..TAGS.len())]
    } else {
        rng.random()
    };
    let body = match rng.random_range(0..4) {
        0 => random_bytes(rng, 200),
        1 => bent(rng, &parse_body("", "select $1::int", &[23])),
        2 => bent(rng, &bind_body("", "", &[Some(b"1")])),
        _ => bent(rng, &cstr("select 1")),
    };
    match rng.random_range(0..6) {
        0 => framed_as(tag, rng.random(), &body),
        1 => framed_as(tag, rng.random_range(0..4), &body),
        2 => framed_as(tag, 0xFFFF_FFFF, &body),
        3 => framed_as(tag, body.len() as u32 + 4 + rng.random_range(1..100), &body),
        _ => frame(tag, &body),
    }
}

/// A copy with some bytes changed, some cut off, or some doubled.
fn bent(rng: &mut StdRng, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    match rng.random_range(0..3) {
        0 => body.truncate(rng.random_range(0..=body.len())),
        1 => body.extend_from_within(rng.random_range(0..body.len())..),
        _ => (0..3).for_each(|_| {
            let at = rng.random_range(0..body.len());
            body[at] = rng.random();
        }),
    }
    body
}

pub fn parse_body(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = cstr(name);
    body.extend(cstr(sql));
    body.extend((types.len() as u16).to_be_bytes());
    types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    body
}

pub fn bind_body(portal: &str, statement: &str, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend(cstr(statement));
    body.extend([0, 0]);
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            Some(bytes) => {
                body.extend((bytes.len() as u32).to_be_bytes());
                body.extend(*bytes);
            }
            None => body.extend(0xFFFF_FFFF_u32.to_be_bytes()),
        }
    }
    body.extend([0, 0]);
    body
}

/// Parse, Bind with these values, Execute, Sync: the tag sequence and the first SQLSTATE.
fn extended(
    raw: &mut Raw,
    sql: &str,
    types: &[u32],
    values: &[Option<&[u8]>],
) -> (String, Option<String>) {
    raw.send(b'P', &parse_body("", sql, types)).expect("parse");
    raw.send(b'B', &bind_body("", "", values)).expect("bind");
    raw.send(b'E', &[0, 0, 0, 0, 0]).expect("execute");
    raw.send(b'S', &[]).expect("sync");
    let messages = raw.until(b'Z').expect("an answer");
    let tags = messages
        .iter()
        .map(|m| m.tag as char)
        .filter(|t| *t != 'N' && *t != 'S')
        .collect();
    (
        tags,
        messages
            .iter()
            .find(|m| m.tag == b'E')
            .and_then(|m| m.field(b'C')),
    )
}

#[test]
fn wrong_parameter_counts_and_values_are_errors_of_the_statement() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    let two = "select $1::int + $2::int";
    let bad = |state: &str| ("1EZ".to_owned(), Some(state.to_owned()));
    assert_eq!(extended(&mut raw, two, &[], &[Some(b"1")]), bad("08P01"));
    assert_eq!(
        extended(&mut raw, two, &[], &[Some(b"1"), Some(b"2"), Some(b"3")]),
        bad("08P01")
    );
    assert_eq!(extended(&mut raw, two, &[], &[]), bad("08P01"));
    assert_eq!(
        extended(&mut raw, two, &[], &[Some(b"1"), Some(b"x")]),
        bad("22P02")
    );
    assert_eq!(
        extended(&mut raw, "select $1::text", &[], &[Some(b"\xff\xfe")]),
        bad("22021")
    );
    assert_eq!(
        extended(&mut raw, two, &[], &[Some(b"1"), Some(b"2")]),
        ("12DCZ".to_owned(), None)
    );
    assert_eq!(
        extended(&mut raw, two, &[], &[None, Some(b"2")]),
        ("12DCZ".to_owned(), None)
    );
    assert_eq!(
        extended(&mut raw, "select 1/0", &[], &[]).1.as_deref(),
        Some("22012")
    );
    assert_eq!(
        extended(&mut raw, "select 1; select 2", &[], &[])
            .1
            .as_deref(),
        Some("42601")
    );
}

#[test]
fn unknown_statements_and_portals_are_named_by_their_codes() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    for (tag, body, state) in [
        (b'D', b"Snosuch\0".to_vec(), "26000"),
        (b'D', b"Pnosuch\0".to_vec(), "34000"),
        (b'E', b"nosuch\0\0\0\0\0".to_vec(), "34000"),
    ] {
        raw.send(tag, &body).expect("send");
        raw.send(b'S', &[]).expect("sync");
        let messages = raw.until(b'Z').expect("an answer");
        assert_eq!(
            messages[0].field(b'C').as_deref(),
            Some(state),
            "{} {body:?}",
            tag as char
        );
    }
    raw.send(b'C', b"Snosuch\0")
        .expect("closing what is not there is fine");
    raw.send(b'S', &[]).expect("sync");
    assert_eq!(raw.until(b'Z').expect("an answer")[0].tag, b'3');
}

#[test]
fn error_in_a_pipeline_skips_to_its_sync() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create table t (v int)").expect("create");
    let mut bytes = Vec::new();
    for sql in [
        "insert into t values (1)",
        "select 1/0",
        "insert into t values (2)",
    ] {
        bytes.extend(frame(b'P', &parse_body("", sql, &[])));
        bytes.extend(frame(b'B', &bind_body("", "", &[])));
        bytes.extend(frame(b'E', &[0, 0, 0, 0, 0]));
    }
    bytes.extend(frame(b'S', &[]));
    raw.bytes(&bytes).expect("send");
    let messages = raw.until(b'Z').expect("an answer");
    assert_eq!(messages.iter().filter(|m| m.tag == b'E').count(), 1);
    let rows = raw.query("select count(*) from t").expect("count");
    assert_eq!(
        rows.iter().find(|m| m.tag == b'D').expect("a row").body,
        [0, 1, 0, 0, 0, 1, b'0']
    );
}

#[test]
fn portal_with_a_row_limit_suspends_and_goes_on() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("begin").expect("begin");
    raw.send(
        b'P',
        &parse_body("", "select x from generate_series(1, 5) x", &[]),
    )
    .expect("parse");
    raw.send(b'B', &bind_body("p", "", &[])).expect("bind");
    let execute = |rows: u32| [&cstr("p")[..], &rows.to_be_bytes()[..]].concat();
    for rows in [2, 2, 2] {
        raw.send(b'E', &execute(rows)).expect("execute");
    }
    raw.send(b'S', &[]).expect("sync");
    let tags: String = raw
        .until(b'Z')
        .expect("an answer")
        .iter()
        .map(|m| m.tag as char)
        .collect();
    assert_eq!(tags, "12DDsDDsDCZ");
}

#[test]
fn protocol_violations_mid_copy_are_survived() {
    let mut node = Node::start();
    run(async {
        node.sql_after("create table t (v int)").await;
    });
    for junk in [
        frame(b'Q', &cstr("select 1")),
        frame(b'Z', &[]),
        framed_as(b'd', 0xFFFF_FFFF, &[]),
        vec![0; 40],
        frame(b'd', &[0xFF; 3000]),
    ] {
        let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
        raw.send(b'Q', &cstr("copy t from stdin")).expect("copy");
        raw.until(b'G').expect("CopyInResponse");
        let _ = raw.bytes(&junk);
        let _ = raw.half_close();
        raw.drain(QUIET);
    }
    lives(&mut node, "junk in a COPY");
    run(async {
        assert_eq!(
            column(&node.sql().await, "select count(*) from t").await,
            "0"
        )
    });
}

/// The tags of an answer without notices and parameter changes, and the SQLSTATEs in it.
fn outline(messages: &[harness::wire::Message]) -> (String, Vec<String>) {
    let told = messages.iter().filter(|m| m.tag != b'N' && m.tag != b'S');
    let errors = messages.iter().filter(|m| m.tag == b'E');
    (
        told.map(|m| m.tag as char).collect(),
        errors.filter_map(|m| m.field(b'C')).collect(),
    )
}

#[test]
fn portal_that_ran_gives_no_rows_and_one_without_rows_cannot_be_run_again() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create table t (v int)").expect("create");
    let mut twice = |sql: &str| {
        raw.send(b'P', &parse_body("", sql, &[])).expect("parse");
        raw.send(b'B', &bind_body("", "", &[])).expect("bind");
        raw.send(b'E', &[0, 0, 0, 0, 0]).expect("execute");
        raw.send(b'E', &[0, 0, 0, 0, 0]).expect("execute");
        raw.send(b'S', &[]).expect("sync");
        let answer = raw.until(b'Z').expect("an answer");
        let done: Vec<_> = answer.iter().filter(|m| m.tag == b'C').collect();
        let tags = done.iter().map(|m| String::from_utf8_lossy(&m.body));
        let tags: Vec<_> = tags.map(|t| t.trim_end_matches('\0').to_owned()).collect();
        (outline(&answer), tags.join(", "))
    };
    let fine = |told: &str| (told.to_owned(), vec![]);
    assert_eq!(
        twice("select 7 union all select 8"),
        (fine("12DDCCZ"), "SELECT 2, SELECT 0".to_owned())
    );
    assert_eq!(
        twice("insert into t values (1) returning v"),
        (fine("12DCCZ"), "INSERT 0 1, INSERT 0 0".to_owned())
    );
    assert_eq!(twice(""), (fine("12IIZ"), String::new()));
    for sql in ["insert into t values (2)", "set application_name = 'x'"] {
        let ((told, errors), _) = twice(sql);
        assert_eq!((told.as_str(), errors), ("12CEZ", vec!["55000".to_owned()]));
    }
    let rows = raw.query("select v from t").expect("rows");
    assert_eq!(outline(&rows).0, "TDCZ", "the second insert was undone");
}

#[test]
fn parameter_that_names_an_object_is_looked_up_when_the_statement_runs() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create table t (c regclass)").expect("create");
    let insert = "insert into t values ($1)";
    let mut run = |name: &str| extended(&mut raw, insert, &[2205], &[Some(name.as_bytes())]);
    assert_eq!(run("t"), ("12CZ".to_owned(), None));
    assert_eq!(run("1259"), ("12CZ".to_owned(), None));
    assert_eq!(run("nosuch"), ("12EZ".to_owned(), Some("42P01".to_owned())));
    let rows = raw.query("select c from t where c = 't'::regclass or c = 'pg_class'::regclass");
    assert_eq!(outline(&rows.expect("rows")).0, "TDDCZ");
}

/// An INSERT that reads nothing needs no read point; one whose values come from the catalog does, as the local catalog may be behind.
#[test]
fn insert_of_looked_up_values_takes_a_read_point() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create table t (o oid, c regclass)")
        .expect("create");
    let rounds =
        || node.server.metrics().expect("metrics")["clusterd_read_point_batch_size_count"] as u64;
    let cases: [(&str, &str, Option<&[u8]>, u64); 4] = [
        ("plain", "insert into t (o) values ($1)", Some(b"1"), 0),
        ("name", "insert into t (c) values ($1)", Some(b"t"), 5),
        (
            "folded",
            "insert into t values ($1, 't'::regclass)",
            None,
            5,
        ),
        (
            "looked_up",
            "insert into t (c) values (to_regclass($1))",
            Some(b"t"),
            5,
        ),
    ];
    for (name, sql, value, wanted) in cases {
        raw.send(b'P', &parse_body(name, sql, &[])).expect("parse");
        raw.send(b'S', &[]).expect("sync");
        assert_eq!(outline(&raw.until(b'Z').expect("an answer")).0, "1Z");
        let before = rounds();
        for _ in 0..5 {
            // At once: without its Sync in sight the statement may be one of several, which share a read point.
            let messages = [
                frame(b'B', &bind_body("", name, &[value])),
                frame(b'E', &[0; 5]),
                frame(b'S', &[]),
            ];
            raw.bytes(&messages.concat()).expect("send");
            assert_eq!(outline(&raw.until(b'Z').expect("an answer")).0, "2CZ");
        }
        assert_eq!(rounds() - before, wanted, "{sql}");
    }
}

#[test]
fn query_does_not_end_the_skipping_to_a_sync() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create table t (v int)").expect("create");
    let mut bytes = frame(b'P', &parse_body("", "select nonsense", &[]));
    bytes.extend(frame(b'Q', &cstr("insert into t values (1)")));
    bytes.extend(frame(
        b'P',
        &parse_body("", "insert into t values (2)", &[]),
    ));
    bytes.extend(frame(b'B', &bind_body("", "", &[])));
    bytes.extend(frame(b'E', &[0, 0, 0, 0, 0]));
    bytes.extend(frame(b'S', &[]));
    raw.bytes(&bytes).expect("send");
    let answer = raw.until(b'Z').expect("an answer");
    assert_eq!(
        outline(&answer),
        ("EZ".to_owned(), vec!["42703".to_owned()])
    );
    let rows = raw.query("select v from t").expect("rows");
    assert_eq!(outline(&rows).0, "TCZ", "nothing behind the error was run");
}

#[test]
fn statement_timeout_counts_while_a_statement_is_prepared_and_described() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create table t (v int)").expect("create");
    let list: Vec<_> = (0..200_000).map(|n| n.to_string()).collect();
    let heavy = format!("select v from t where v in ({})", list.join(","));
    let mut ask = |tag: u8, body: &[u8]| {
        raw.send(tag, body).expect("send");
        if tag != b'Q' {
            raw.send(b'S', &[]).expect("sync");
        }
        outline(&raw.until(b'Z').expect("an answer"))
    };
    let cancelled = ("EZ".to_owned(), vec!["57014".to_owned()]);
    assert_eq!(ask(b'P', &parse_body("p", &heavy, &[])).0, "1Z");
    // Planned again by Describe, because the catalog moves.
    assert_eq!(ask(b'Q', &cstr("create table u (v int)")).0, "CZ");
    assert_eq!(ask(b'Q', &cstr("set statement_timeout = '20ms'")).0, "CZ");
    assert_eq!(ask(b'D', &cstr("Sp")), cancelled);
    assert_eq!(ask(b'P', &parse_body("q", &heavy, &[])), cancelled);
    assert_eq!(ask(b'Q', &cstr("reset statement_timeout")).0, "CZ");
    assert_eq!(ask(b'D', &cstr("Sp")).0, "tTZ");
}

#[test]
fn copy_that_waits_for_data_is_running_and_not_idle() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create table t (v int)").expect("create");
    raw.query("set idle_in_transaction_session_timeout = '200ms'")
        .expect("set");
    let copy = |raw: &mut Raw| {
        raw.send(b'Q', &cstr("copy t from stdin")).expect("copy");
        raw.until(b'G').expect("CopyInResponse");
        raw.send(b'd', b"1\n").expect("data");
    };
    // A client that takes its time within a block is not idle ...
    raw.query("begin").expect("begin");
    copy(&mut raw);
    assert!(raw.is_quiet(Duration::from_millis(800)).expect("a socket"));
    raw.send(b'c', &[]).expect("CopyDone");
    assert_eq!(outline(&raw.until(b'Z').expect("an answer")).0, "CZ");
    assert_eq!(outline(&raw.query("commit").expect("commit")).0, "CZ");
    // ... but its statement has a limit, which needs no data to be noticed.
    raw.query("set statement_timeout = '300ms'").expect("set");
    copy(&mut raw);
    let answer = outline(&raw.until(b'Z').expect("an answer"));
    assert_eq!(answer, ("EZ".to_owned(), vec!["57014".to_owned()]));
    // What was on its way is dropped.
    raw.send(b'd', b"2\n").expect("data");
    raw.send(b'c', &[]).expect("CopyDone");
    raw.query("reset statement_timeout").expect("reset");
    let rows = raw.query("select v from t").expect("rows");
    assert_eq!(outline(&rows).0, "TDCZ", "only the first COPY has loaded");
}

#[test]
fn drop_database_does_not_wait_for_its_sync() {
    let node = Node::start();
    let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
    raw.query("create database d").expect("create");
    raw.send(b'P', &parse_body("", "drop database d", &[]))
        .expect("parse");
    raw.send(b'B', &bind_body("", "", &[])).expect("bind");
    raw.send(b'E', &[0; 5]).expect("execute");
    raw.send(b'H', &[]).expect("flush");
    assert_eq!(outline(&raw.until(b'C').expect("an answer")).0, "12C");
    raw.send(b'S', &[]).expect("sync");
    assert_eq!(outline(&raw.until(b'Z').expect("an answer")).0, "Z");
    // After another statement it is inside of a transaction.
    let mut bytes = vec![];
    for statement in ["create database e", "drop database e"] {
        bytes.extend(frame(b'P', &parse_body("", statement, &[])));
        bytes.extend(frame(b'B', &bind_body("", "", &[])));
        bytes.extend(frame(b'E', &[0; 5]));
    }
    bytes.extend(frame(b'S', &[]));
    raw.bytes(&bytes).expect("send");
    let (tags, states) = outline(&raw.until(b'Z').expect("an answer"));
    assert_eq!(
        (tags.as_str(), states),
        ("12C12EZ", vec!["25001".to_owned()])
    );
}
