//! The generated tables, as rows of CSV or as `.tbl` files.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use tpchgen::csv::{
    CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv,
};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};

/// The tables in an order in which they can be loaded.
pub const TABLES: [&str; 8] = [
    "region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem",
];

/// The rows of one table as CSV lines without line ends.
pub fn csv(table: &str, scale: f64) -> Box<dyn Iterator<Item = String> + Send> {
    match table {
        "region" => Box::new(
            RegionGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| RegionCsv::new(r).to_string()),
        ),
        "nation" => Box::new(
            NationGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| NationCsv::new(r).to_string()),
        ),
        "part" => Box::new(
            PartGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| PartCsv::new(r).to_string()),
        ),
        "supplier" => Box::new(
            SupplierGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| SupplierCsv::new(r).to_string()),
        ),
        "partsupp" => Box::new(
            PartSuppGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| PartSuppCsv::new(r).to_string()),
        ),
        "customer" => Box::new(
            CustomerGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| CustomerCsv::new(r).to_string()),
        ),
        "orders" => Box::new(
            OrderGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| OrderCsv::new(r).to_string()),
        ),
        "lineitem" => Box::new(
            LineItemGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| LineItemCsv::new(r).to_string()),
        ),
        other => unreachable!("no table {other}"),
    }
}

/// The rows of one table in the format of `.tbl` files.
fn tbl(table: &str, scale: f64) -> Box<dyn Iterator<Item = String>> {
    match table {
        "region" => Box::new(
            RegionGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        "nation" => Box::new(
            NationGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        "part" => Box::new(
            PartGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        "supplier" => Box::new(
            SupplierGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        "partsupp" => Box::new(
            PartSuppGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        "customer" => Box::new(
            CustomerGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        "orders" => Box::new(
            OrderGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        "lineitem" => Box::new(
            LineItemGenerator::new(scale, 1, 1)
                .iter()
                .map(|r| r.to_string()),
        ),
        other => unreachable!("no table {other}"),
    }
}

/// Writes all tables below `out`.
pub fn write_tbl(scale: f64, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out)?;
    for table in TABLES {
        let mut file =
            std::io::BufWriter::new(std::fs::File::create(out.join(format!("{table}.tbl")))?);
        let mut rows = 0;
        for line in tbl(table, scale) {
            writeln!(file, "{line}")?;
            rows += 1;
        }
        file.flush()?;
        println!("{table}: {rows} rows");
    }
    Ok(())
}
