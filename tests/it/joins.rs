//! Outer joins whose ON has more than equalities, over keys that compare equal without being the same: numerics of another scale, integers against numerics,
//! NULLs, duplicates. Three ways give the same rows: the dataflow, kept up over changes; the dataflow of one query; the interpreter. What they give
//! is what PostgreSQL 15 gives.

use harness::Sql;

use crate::node::{Node, run};

const SETUP: &str = "create table l (id int, a numeric, n int);
    create table r (id int, b numeric, m int);
    insert into l values (1, 1.0, 1), (2, 1.00, 1), (2, 1.00, 1), (2, 1.0, 1), (3, 2, 2), (4, null, 3), (4, null, 3), (5, 2.50, null), (6, 7.10, 7);
    insert into r values (1, 1.000, 1), (1, 1.0, 2), (2, 2.00, 5), (3, null, 4), (4, 2.5, 0), (5, 3.0, null)";

const CHANGES: &[&str] = &[
    "delete from r where m = 2",
    "update l set a = a + 0.00 where id = 3",
    "insert into r values (6, 7.1, 8), (7, 1.0, null)",
    "delete from l where id = 4",
    "insert into l values (4, null, 3), (7, 3, 3)",
];

/// A query, and the rows that PostgreSQL 15 gives for it before and after all changes, sorted by bytes.
struct Case {
    query: &'static str,
    before: &'static [&'static str],
    after: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        query: "select l.id, a, n, r.id as rid, b, m from l left join r on a = b and n < m",
        before: &[
            "1|1.0|1|1|1.0|2",
            "2|1.00|1|1|1.0|2",
            "2|1.00|1|1|1.0|2",
            "2|1.0|1|1|1.0|2",
            "3|2|2|2|2.00|5",
            "4|NULL|3|NULL|NULL|NULL",
            "4|NULL|3|NULL|NULL|NULL",
            "5|2.50|NULL|NULL|NULL|NULL",
            "6|7.10|7|NULL|NULL|NULL",
        ],
        after: &[
            "1|1.0|1|NULL|NULL|NULL",
            "2|1.00|1|NULL|NULL|NULL",
            "2|1.00|1|NULL|NULL|NULL",
            "2|1.0|1|NULL|NULL|NULL",
            "3|2.00|2|2|2.00|5",
            "4|NULL|3|NULL|NULL|NULL",
            "5|2.50|NULL|NULL|NULL|NULL",
            "6|7.10|7|6|7.1|8",
            "7|3|3|NULL|NULL|NULL",
        ],
    },
    Case {
        query: "select l.id, a, n, r.id as rid, b, m from l left join r on n = b and m > l.id",
        before: &[
            "1|1.0|1|1|1.0|2",
            "2|1.00|1|NULL|NULL|NULL",
            "2|1.00|1|NULL|NULL|NULL",
            "2|1.0|1|NULL|NULL|NULL",
            "3|2|2|2|2.00|5",
            "4|NULL|3|NULL|NULL|NULL",
            "4|NULL|3|NULL|NULL|NULL",
            "5|2.50|NULL|NULL|NULL|NULL",
            "6|7.10|7|NULL|NULL|NULL",
        ],
        after: &[
            "1|1.0|1|NULL|NULL|NULL",
            "2|1.00|1|NULL|NULL|NULL",
            "2|1.00|1|NULL|NULL|NULL",
            "2|1.0|1|NULL|NULL|NULL",
            "3|2.00|2|2|2.00|5",
            "4|NULL|3|NULL|NULL|NULL",
            "5|2.50|NULL|NULL|NULL|NULL",
            "6|7.10|7|NULL|NULL|NULL",
            "7|3|3|NULL|NULL|NULL",
        ],
    },
    Case {
        query: "select l.id, a, n, r.id as rid, b, m from l right join r on a = b and l.id <> r.id",
        before: &[
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|1|1.0|2",
            "2|1.00|1|1|1.0|2",
            "2|1.0|1|1|1.000|1",
            "2|1.0|1|1|1.0|2",
            "3|2|2|2|2.00|5",
            "5|2.50|NULL|4|2.5|0",
            "NULL|NULL|NULL|3|NULL|4",
            "NULL|NULL|NULL|5|3.0|NULL",
        ],
        after: &[
            "1|1.0|1|7|1.0|NULL",
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|7|1.0|NULL",
            "2|1.00|1|7|1.0|NULL",
            "2|1.0|1|1|1.000|1",
            "2|1.0|1|7|1.0|NULL",
            "3|2.00|2|2|2.00|5",
            "5|2.50|NULL|4|2.5|0",
            "7|3|3|5|3.0|NULL",
            "NULL|NULL|NULL|3|NULL|4",
            "NULL|NULL|NULL|6|7.1|8",
        ],
    },
    Case {
        query: "select a, b from l left join r on a = b and m <> 2",
        before: &[
            "1.00|1.000",
            "1.00|1.000",
            "1.0|1.000",
            "1.0|1.000",
            "2.50|2.5",
            "2|2.00",
            "7.10|NULL",
            "NULL|NULL",
            "NULL|NULL",
        ],
        after: &[
            "1.00|1.000",
            "1.00|1.000",
            "1.0|1.000",
            "1.0|1.000",
            "2.00|2.00",
            "2.50|2.5",
            "3|NULL",
            "7.10|7.1",
            "NULL|NULL",
        ],
    },
    Case {
        query: "select n, b from l left join r on n = b and coalesce(m, 9) > n",
        before: &[
            "1|1.0",
            "1|1.0",
            "1|1.0",
            "1|1.0",
            "2|2.00",
            "3|3.0",
            "3|3.0",
            "7|NULL",
            "NULL|NULL",
        ],
        after: &[
            "1|1.0",
            "1|1.0",
            "1|1.0",
            "1|1.0",
            "2|2.00",
            "3|3.0",
            "3|3.0",
            "7|NULL",
            "NULL|NULL",
        ],
    },
    Case {
        query: "select l.id, a, n, r.id as rid, b, m from l left join r on (a = b or n = m) and l.id < 5",
        before: &[
            "1|1.0|1|1|1.000|1",
            "1|1.0|1|1|1.0|2",
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|1|1.0|2",
            "2|1.00|1|1|1.0|2",
            "2|1.0|1|1|1.000|1",
            "2|1.0|1|1|1.0|2",
            "3|2|2|1|1.0|2",
            "3|2|2|2|2.00|5",
            "4|NULL|3|NULL|NULL|NULL",
            "4|NULL|3|NULL|NULL|NULL",
            "5|2.50|NULL|NULL|NULL|NULL",
            "6|7.10|7|NULL|NULL|NULL",
        ],
        after: &[
            "1|1.0|1|1|1.000|1",
            "1|1.0|1|7|1.0|NULL",
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|1|1.000|1",
            "2|1.00|1|7|1.0|NULL",
            "2|1.00|1|7|1.0|NULL",
            "2|1.0|1|1|1.000|1",
            "2|1.0|1|7|1.0|NULL",
            "3|2.00|2|2|2.00|5",
            "4|NULL|3|NULL|NULL|NULL",
            "5|2.50|NULL|NULL|NULL|NULL",
            "6|7.10|7|NULL|NULL|NULL",
            "7|3|3|NULL|NULL|NULL",
        ],
    },
    Case {
        query: "select a, n, b, m from l left join r on a + n = b + m and l.id >= r.id",
        before: &[
            "1.00|1|1.000|1",
            "1.00|1|1.000|1",
            "1.0|1|1.000|1",
            "1.0|1|1.000|1",
            "2.50|NULL|NULL|NULL",
            "2|2|NULL|NULL",
            "7.10|7|NULL|NULL",
            "NULL|3|NULL|NULL",
            "NULL|3|NULL|NULL",
        ],
        after: &[
            "1.00|1|1.000|1",
            "1.00|1|1.000|1",
            "1.0|1|1.000|1",
            "1.0|1|1.000|1",
            "2.00|2|NULL|NULL",
            "2.50|NULL|NULL|NULL",
            "3|3|NULL|NULL",
            "7.10|7|NULL|NULL",
            "NULL|3|NULL|NULL",
        ],
    },
];

#[test]
fn outer_joins_with_more_conditions_give_what_postgres_gives() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after(SETUP).await;
        for (i, case) in CASES.iter().enumerate() {
            let create = format!("create materialized view v{i} as {}", case.query);
            sql.run(&create)
                .await
                .unwrap_or_else(|e| panic!("{create}: {}", harness::sql::error_text(&e)));
        }
        for change in [None].into_iter().chain(CHANGES.iter().map(Some)) {
            if let Some(change) = change {
                sql.run(change).await.expect("a change");
            }
            for (i, case) in CASES.iter().enumerate() {
                sql.run("set clusterd.execution = 'interpreter'")
                    .await
                    .expect("set");
                let interpreted = sorted(&sql, case.query).await;
                sql.run("reset clusterd.execution").await.expect("reset");
                let maintained = sorted(&sql, &format!("select * from v{i}")).await;
                let query = case.query;
                assert_eq!(maintained, interpreted, "{query} after {change:?}");
                assert_eq!(sorted(&sql, query).await, interpreted, "{query}");
                if change.is_none() {
                    assert_eq!(interpreted, case.before, "{query}");
                }
                if change == CHANGES.last() {
                    assert_eq!(interpreted, case.after, "{query}");
                }
            }
        }
    });
}

/// The rows as text, `1.0` apart from `1.00`.
async fn sorted(sql: &Sql, query: &str) -> Vec<String> {
    let answer = sql
        .rows(query)
        .await
        .unwrap_or_else(|e| panic!("{query}: {}", harness::sql::error_text(&e)));
    let mut rows: Vec<_> = answer
        .rows()
        .iter()
        .map(|row| {
            let values = row.iter().map(|v| v.as_deref().unwrap_or("NULL"));
            values.collect::<Vec<_>>().join("|")
        })
        .collect();
    rows.sort();
    rows
}
