//! Prints what reading and writing rows costs. Run with `cargo bench -p repr`.

// A benchmark has to look at the clock.
#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::Instant;

use repr::format::{FormatCtx, parse_datum, write_text};
use repr::{Date, Datum, Numeric, Row, RowArena, RowPacker, RowRef, SqlType, decode_columns};

/// Runs `work` often enough to be measured and prints nanoseconds per unit of it.
fn measure(name: &str, units: usize, mut work: impl FnMut()) {
    // Many short tries, the best of which was not disturbed by other work on the machine.
    let rounds = 2_000;
    let mut best = f64::MAX;
    for _ in 0..300 {
        let start = Instant::now();
        for _ in 0..rounds {
            work();
        }
        let nanos = start.elapsed().as_nanos() as f64;
        best = best.min(nanos / (rounds * units) as f64);
    }
    println!("{name:40} {best:8.2} ns");
}

fn main() {
    // A line item of TPC-H: 4 keys and counts, 4 decimals, flags, 3 dates, 3 strings.
    let money = |mantissa| Datum::Numeric(Numeric::from_parts(mantissa, 2).expect("fits"));
    let datums = [
        Datum::Int64(123_456),
        Datum::Int64(7_890),
        Datum::Int64(55),
        Datum::Int32(3),
        money(1_700),
        money(2_116_823),
        money(4),
        money(2),
        Datum::String("N"),
        Datum::String("O"),
        Datum::Date(Date(-1388)),
        Datum::Date(Date(-1418)),
        Datum::Date(Date(-1380)),
        Datum::String("DELIVER IN PERSON"),
        Datum::String("TRUCK"),
        Datum::String("egular courts above the"),
    ];
    let row = Row::pack_slice(&datums);
    println!("row of {} columns, {} bytes", datums.len(), row.byte_len());
    let columns = datums.len();
    measure("skip, per column", columns, || {
        let mut iter = black_box(&row).iter();
        iter.skip_n(black_box(columns));
        black_box(iter.is_done());
    });
    measure("decode all, per column", columns, || {
        for datum in black_box(&row).iter() {
            black_box(datum);
        }
    });
    let mut out = Vec::with_capacity(columns);
    measure("unpack_into, per column", columns, || {
        out.clear();
        black_box(&row).unpack_into(&mut out);
        black_box(out.len());
    });
    let demand = [4, 5, 6, 10];
    let mut few = [Datum::Null; 4];
    measure("decode 4 of 16 columns, per row", 1, || {
        decode_columns(RowRef::from(black_box(&row)), &demand, &mut few);
        black_box(&few);
    });
    let mut packer = RowPacker::new();
    measure("pack, per column", columns, || {
        packer.extend(black_box(&datums));
        black_box(packer.as_bytes());
        packer.clear();
    });
    measure("pack and finish, per row", 1, || {
        packer.extend(black_box(&datums));
        black_box(packer.finish_row());
    });
    measure("finish a row of 3 columns", 1, || {
        packer.extend(black_box(&datums[..3]));
        black_box(packer.finish_row());
    });
    measure("validate, per row", 1, || {
        black_box(RowRef::from_bytes(black_box(row.as_bytes())).is_ok());
    });
    measure("hash, per row", 1, || {
        black_box(black_box(&row).hash64());
    });
    measure("clone, per row", 1, || {
        black_box(black_box(&row).clone());
    });
    numerics();
    texts();
}

fn numerics() {
    let number = |mantissa, scale| black_box(Numeric::from_parts(mantissa, scale).expect("fits"));
    let (price, discount, sum) = (
        number(2_116_823, 2),
        number(4, 2),
        number(123_456_789_012, 2),
    );
    measure("numeric add, same scale", 1, || {
        let _ = black_box(black_box(sum).checked_add(black_box(price)));
    });
    measure("numeric add, other scale", 1, || {
        let _ = black_box(black_box(Numeric::ONE).checked_sub(black_box(discount)));
    });
    measure("numeric mul", 1, || {
        let _ = black_box(black_box(price).checked_mul(black_box(discount)));
    });
    measure("numeric div", 1, || {
        let _ = black_box(black_box(sum).checked_div(black_box(price)));
    });
}

fn texts() {
    let ctx = FormatCtx::default();
    let arena = RowArena::new();
    let cases = [
        (SqlType::Int64, "1234567"),
        (SqlType::Numeric(None), "21168.23"),
        (SqlType::Float64, "21168.23"),
        (SqlType::Date, "1996-03-13"),
        (SqlType::Timestamp(None), "1996-03-13 10:20:30.5"),
        (SqlType::TimestampTz(None), "1996-03-13 10:20:30.5+00"),
        (SqlType::Text, "DELIVER IN PERSON"),
    ];
    let mut text = String::new();
    for (ty, input) in cases {
        measure(&format!("read {ty}"), 1, || {
            let _ = black_box(parse_datum(&ty, black_box(input), &ctx, &arena));
        });
        let datum = parse_datum(&ty, input, &ctx, &arena).expect("valid");
        measure(&format!("write {ty}"), 1, || {
            text.clear();
            let _ = write_text(&ty, black_box(datum), &ctx, &mut text);
            black_box(&text);
        });
    }
}
