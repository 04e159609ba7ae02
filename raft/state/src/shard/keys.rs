//! Key spaces: which columns of a row are a key, and the key's canonical bytes.

use repr::{Row, RowArena, RowPacker, RowRef, SqlType};

use crate::catalog::Table;

/// The columns of one PRIMARY KEY or UNIQUE constraint.
///
/// Two rows have the same key exactly when [`KeySpace::key`] gives the same row for both. A key with a
/// NULL in it is no key: it never conflicts and cannot be looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySpace {
    columns: Vec<usize>,
    types: Vec<SqlType>,
    /// Whether the packed bytes of the columns are canonical as they are.
    plain: bool,
}

impl KeySpace {
    /// The key spaces of a table, in the order of its constraints; `None` if a constraint names a column that
    /// the table lacks.
    pub fn of_table(table: &Table) -> Option<Vec<KeySpace>> {
        let of_key = |columns: &[usize]| {
            let types = columns
                .iter()
                .map(|c| table.columns.get(*c).map(|column| column.ty.clone()))
                .collect::<Option<Vec<_>>>()?;
            Some(KeySpace {
                columns: columns.to_vec(),
                plain: !types.iter().any(SqlType::needs_key_canonical),
                types,
            })
        };
        table.keys.iter().map(|key| of_key(&key.columns)).collect()
    }

    /// The canonical key of a row.
    pub fn key(&self, row: RowRef<'_>) -> Option<Row> {
        let mut packer = RowPacker::new();
        self.pack_key(row, &mut packer).then(|| packer.finish_row())
    }

    /// Appends the canonical key of a row to `out`; false (and an unspecified rest in `out`) if it holds a NULL.
    ///
    /// # Panics
    /// If the row has fewer columns than the table: rows are checked before they are stored.
    pub(crate) fn pack_key(&self, row: RowRef<'_>, out: &mut RowPacker) -> bool {
        let mut datums = row.iter();
        let mut at = 0;
        for (column, ty) in self.columns.iter().zip(&self.types) {
            if *column < at {
                datums = row.iter();
                at = 0;
            }
            datums.skip_n(column - at);
            at = column + 1;
            let packed = datums.take_packed(1);
            let datum = packed
                .iter()
                .next()
                .expect("the row has the table's columns");
            if datum.is_null() {
                return false;
            }
            if self.plain {
                out.push_packed(packed);
            } else {
                out.push(datum.key_canonical(ty, &RowArena::new()));
            }
        }
        true
    }
}

/// The keys of many rows in one key space, in one allocation.
#[derive(Default)]
pub(crate) struct KeyList {
    packer: RowPacker,
    /// Per row: where its key ends, and its hash; `None`: no key.
    keys: Vec<Option<(usize, u64)>>,
    starts: Vec<usize>,
}

impl KeyList {
    pub(crate) fn of<'a>(space: &KeySpace, rows: impl Iterator<Item = RowRef<'a>>) -> KeyList {
        let mut list = KeyList::default();
        rows.for_each(|row| list.push(space, row));
        list
    }

    fn push(&mut self, space: &KeySpace, row: RowRef<'_>) {
        let start = self.packer.byte_len();
        self.starts.push(start);
        let whole = space.pack_key(row, &mut self.packer);
        let bytes = &self.packer.as_bytes()[start..];
        self.keys
            .push(whole.then(|| (self.packer.byte_len(), hash_key(bytes))));
    }

    pub(crate) fn bytes(&self, index: usize) -> Option<&[u8]> {
        self.keys[index].map(|(end, _)| &self.packer.as_bytes()[self.starts[index]..end])
    }

    pub(crate) fn hash(&self, index: usize) -> Option<u64> {
        self.keys[index].map(|(_, hash)| hash)
    }

    /// The key as a row.
    pub(crate) fn row(&self, index: usize) -> Option<RowRef<'_>> {
        // SAFETY: the bytes are whole datums that a packer has packed.
        self.bytes(index)
            .map(|bytes| unsafe { RowRef::from_bytes_unchecked(bytes) })
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// The hash by which indexes find keys. Physical only: no outcome depends on it.
pub(crate) fn hash_key(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
