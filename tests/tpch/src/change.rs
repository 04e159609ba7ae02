//! Random changes of lineitem, orders and customer, aimed at what the queries look at. The same text goes to both servers.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const SEGMENTS: [&str; 5] = [
    "AUTOMOBILE",
    "BUILDING",
    "FURNITURE",
    "HOUSEHOLD",
    "MACHINERY",
];
const PRIORITIES: [&str; 5] = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"];
const MODES: [&str; 7] = ["AIR", "AIR REG", "FOB", "MAIL", "RAIL", "SHIP", "TRUCK"];
const INSTRUCTIONS: [&str; 4] = [
    "COLLECT COD",
    "DELIVER IN PERSON",
    "NONE",
    "TAKE BACK RETURN",
];

/// How many rows one INSERT carries at most.
const ROWS_PER_INSERT: usize = 50;

/// The keys that exist, and the stream of changes to them.
pub struct Changes {
    rng: StdRng,
    lines: Vec<(i64, i64)>,
    orders: Vec<i64>,
    customers: Vec<i64>,
    parts: i64,
    suppliers: i64,
    next_order: i64,
    next_customer: i64,
}

impl Changes {
    /// Starts from the keys of the loaded tables.
    pub fn new(
        seed: u64,
        lines: Vec<(i64, i64)>,
        orders: Vec<i64>,
        customers: Vec<i64>,
        parts: i64,
        suppliers: i64,
    ) -> Changes {
        let next_order = orders.iter().max().copied().unwrap_or(0) + 1;
        let next_customer = customers.iter().max().copied().unwrap_or(0) + 1;
        Changes {
            rng: StdRng::seed_from_u64(seed),
            lines,
            orders,
            customers,
            parts,
            suppliers,
            next_order,
            next_customer,
        }
    }

    /// One batch of about `rows` changed rows, as statements.
    pub fn batch(&mut self, rows: usize) -> Vec<String> {
        let mut statements = Vec::new();
        let mut done = 0;
        while done < rows {
            let (statement, changed) = self.one(rows - done);
            statements.push(statement);
            done += changed;
        }
        statements
    }

    fn one(&mut self, left: usize) -> (String, usize) {
        match self.rng.random_range(0..100) {
            0..30 => self.update_line(),
            30..40 => self.update_order(),
            40..48 => self.update_customer(),
            48..60 => self.delete_line(),
            60..64 => self.delete_order(),
            64..66 => self.delete_customer(),
            66..68 => self.change_a_nation(),
            68..72 => self.insert_customers(left),
            72..82 => self.insert_orders(left),
            _ => self.insert_lines(left),
        }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from.choose(&mut self.rng).expect("a list with values")
    }

    fn cents(&mut self, low: i64, high: i64) -> String {
        let cents = self.rng.random_range(low..=high);
        let sign = if cents < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
    }

    /// A day between 1992 and 1998, as days since 1992-01-01.
    fn day(&mut self) -> i64 {
        self.rng.random_range(0..2500)
    }

    fn line_values(&mut self, order: i64, number: i64) -> String {
        let ship = self.day();
        let commit = ship + self.rng.random_range(-30..60);
        let receipt = ship + self.rng.random_range(1..31);
        let part = self.rng.random_range(1..=self.parts);
        let supplier = self.rng.random_range(1..=self.suppliers);
        let quantity = self.rng.random_range(1..=50);
        let price = self.cents(90_000, 10_000_000);
        let (discount, tax) = (self.rng.random_range(0..=10), self.rng.random_range(0..=8));
        let (flag, status) = (self.pick(&["A", "N", "R"]), self.pick(&["F", "O"]));
        let (instruction, mode) = (self.pick(&INSTRUCTIONS), self.pick(&MODES));
        format!(
            "({order}, {part}, {supplier}, {number}, {quantity}, {price}, 0.{discount:02}, 0.{tax:02}, '{flag}', '{status}', {}, {}, {}, '{instruction}', '{mode}', 'changed')",
            date(ship),
            date(commit),
            date(receipt)
        )
    }

    fn insert_lines(&mut self, left: usize) -> (String, usize) {
        let rows = self.rng.random_range(1..=ROWS_PER_INSERT.min(left.max(1)));
        let mut values = Vec::new();
        for _ in 0..rows {
            let Some(order) = self.orders.choose(&mut self.rng).copied() else {
                break;
            };
            // Generated lines are numbered 1 to 7: a number drawn from far above them is new.
            let key = (order, self.rng.random_range(100..2_000_000_000));
            self.lines.push(key);
            values.push(self.line_values(key.0, key.1));
        }
        (
            format!("insert into lineitem values {}", values.join(", ")),
            rows,
        )
    }

    fn insert_orders(&mut self, left: usize) -> (String, usize) {
        let rows = self.rng.random_range(1..=ROWS_PER_INSERT.min(left.max(1)));
        let mut values = Vec::new();
        for _ in 0..rows {
            let key = self.next_order;
            self.next_order += 1;
            self.orders.push(key);
            let customer = self.customers.choose(&mut self.rng).copied().unwrap_or(1);
            let (price, day) = (self.cents(100_000, 50_000_000), self.day());
            let (priority, shipping) = (self.pick(&PRIORITIES), self.rng.random_range(0..2));
            values.push(format!("({key}, {customer}, 'O', {price}, {}, '{priority}', 'Clerk#000000001', {shipping}, 'changed')", date(day)));
        }
        (
            format!("insert into orders values {}", values.join(", ")),
            rows,
        )
    }

    fn insert_customers(&mut self, left: usize) -> (String, usize) {
        let rows = self.rng.random_range(1..=10.min(left.max(1)));
        let mut values = Vec::new();
        for _ in 0..rows {
            let key = self.next_customer;
            self.next_customer += 1;
            self.customers.push(key);
            let (nation, balance, segment) = (
                self.rng.random_range(0..25),
                self.cents(-99_999, 999_999),
                self.pick(&SEGMENTS),
            );
            values.push(format!("({key}, 'Customer#{key:09}', 'somewhere', {nation}, '10-000-000-0000', {balance}, '{segment}', 'it''s new')"));
        }
        (
            format!("insert into customer values {}", values.join(", ")),
            rows,
        )
    }

    fn update_line(&mut self) -> (String, usize) {
        let Some((order, number)) = self.lines.choose(&mut self.rng).copied() else {
            return self.insert_lines(1);
        };
        let set = match self.rng.random_range(0..7) {
            0 => format!("l_quantity = {}", self.rng.random_range(1..=50)),
            1 => format!(
                "l_extendedprice = l_extendedprice + {}, l_discount = 0.{:02}",
                self.cents(-9_000, 90_000),
                self.rng.random_range(0..=10)
            ),
            2 => format!("l_shipdate = {}", date(self.day())),
            3 => format!(
                "l_returnflag = '{}', l_linestatus = '{}'",
                self.pick(&["A", "N", "R"]),
                self.pick(&["F", "O"])
            ),
            4 => format!(
                "l_shipmode = '{}', l_shipinstruct = '{}'",
                self.pick(&MODES),
                self.pick(&INSTRUCTIONS)
            ),
            5 => format!(
                "l_partkey = {}, l_suppkey = {}",
                self.rng.random_range(1..=self.parts),
                self.rng.random_range(1..=self.suppliers)
            ),
            _ => "l_receiptdate = l_receiptdate + 3, l_commitdate = l_commitdate - 2".to_owned(),
        };
        (
            format!(
                "update lineitem set {set} where l_orderkey = {order} and l_linenumber = {number}"
            ),
            1,
        )
    }

    fn update_order(&mut self) -> (String, usize) {
        let Some(order) = self.orders.choose(&mut self.rng).copied() else {
            return self.insert_orders(1);
        };
        let set = match self.rng.random_range(0..3) {
            0 => format!("o_orderdate = {}", date(self.day())),
            1 => format!(
                "o_orderpriority = '{}', o_shippriority = 1 - o_shippriority",
                self.pick(&PRIORITIES)
            ),
            _ => format!(
                "o_custkey = {}",
                self.customers.choose(&mut self.rng).copied().unwrap_or(1)
            ),
        };
        (
            format!("update orders set {set} where o_orderkey = {order}"),
            1,
        )
    }

    fn update_customer(&mut self) -> (String, usize) {
        let Some(customer) = self.customers.choose(&mut self.rng).copied() else {
            return self.insert_customers(1);
        };
        let set = match self.rng.random_range(0..3) {
            0 => format!("c_mktsegment = '{}'", self.pick(&SEGMENTS)),
            1 => format!("c_nationkey = {}", self.rng.random_range(0..25)),
            _ => format!("c_acctbal = c_acctbal + {}", self.cents(-5_000, 5_000)),
        };
        (
            format!("update customer set {set} where c_custkey = {customer}"),
            1,
        )
    }

    fn delete_line(&mut self) -> (String, usize) {
        if self.lines.is_empty() {
            return self.insert_lines(1);
        }
        let (order, number) = self
            .lines
            .swap_remove(self.rng.random_range(0..self.lines.len()));
        (
            format!("delete from lineitem where l_orderkey = {order} and l_linenumber = {number}"),
            1,
        )
    }

    /// The order goes, its lines stay: joins must drop them, Q1 must keep them.
    fn delete_order(&mut self) -> (String, usize) {
        if self.orders.len() < 2 {
            return self.insert_orders(1);
        }
        let order = self
            .orders
            .swap_remove(self.rng.random_range(0..self.orders.len()));
        (format!("delete from orders where o_orderkey = {order}"), 1)
    }

    fn delete_customer(&mut self) -> (String, usize) {
        if self.customers.len() < 2 {
            return self.insert_customers(1);
        }
        let customer = self
            .customers
            .swap_remove(self.rng.random_range(0..self.customers.len()));
        (
            format!("delete from customer where c_custkey = {customer}"),
            1,
        )
    }

    /// One statement that changes many rows without naming their keys.
    fn change_a_nation(&mut self) -> (String, usize) {
        let (nation, amount) = (self.rng.random_range(0..25), self.cents(-100, 100));
        (
            format!(
                "update customer set c_acctbal = c_acctbal + {amount} where c_nationkey = {nation}"
            ),
            self.customers.len() / 25,
        )
    }
}

fn date(days: i64) -> String {
    format!("date '1992-01-01' + {}", days.max(0))
}
