//! Reading a snapshot. Nothing in it is believed before it is checked.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use repr::{ShardId, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use super::{
    FRAME_BYTES_MAX, Header, Part, RowUpdates, SNAPSHOT_VERSION, ShardHeader, SnapshotError,
};
use crate::catalog::{Catalog, Item, ItemKind};
use crate::command::{Outcome, Session, Write};
use crate::shard::{BatchBuilder, KeySpace, Shard, row_hash};
use crate::state::members::Members;
use crate::state::sessions::{Ended, Sessions};
use crate::state::stage::{Staged, StagedShard, Stages};
use crate::state::{InputHold, ROW_OVERHEAD_BYTES, State};

/// A batch is closed when its rows have this many bytes.
const BATCH_BYTES: usize = 1 << 30;

impl State {
    /// Reads what [`State::write_snapshot`] wrote, up to and including its last frame.
    ///
    /// # Errors
    /// If `input` fails, is of an unknown version, or is not whole.
    pub fn read_snapshot(input: &mut dyn Read) -> Result<State, SnapshotError> {
        let mut frames = Frames {
            input,
            hasher: Xxh3::new(),
        };
        let (Part::Header(header), _) = frames.next()? else {
            return Err(SnapshotError::Damaged("it does not begin with the header"));
        };
        let mut loader = Loader::new(*header);
        loop {
            let (part, checksum_before) = frames.next()?;
            match part {
                Part::Header(_) => return Err(SnapshotError::Damaged("it has two headers")),
                Part::Items(items) => loader.items(items),
                Part::Sessions(sessions) => loader.sessions(sessions),
                Part::Staged {
                    session,
                    seq,
                    writes,
                } => loader.old_staged(session, seq, &writes),
                Part::StagedAttempt {
                    session,
                    seq,
                    chunks,
                    bytes,
                } => {
                    let staged = Staged {
                        seq,
                        chunks,
                        bytes,
                        ..Staged::default()
                    };
                    loader.attempt(session, staged)?;
                }
                Part::StagedShard {
                    shard,
                    known,
                    truncate,
                } => loader.staged_shard(shard, known, truncate)?,
                Part::Members(members) => loader.members = *members,
                Part::Shard(header) => loader.shard(header)?,
                Part::Rows(rows) => loader.rows(rows)?,
                Part::End { checksum } if checksum == checksum_before => return loader.finish(),
                Part::End { .. } => return Err(SnapshotError::Damaged("its checksum is wrong")),
            }
        }
    }
}

struct Frames<'a> {
    input: &'a mut dyn Read,
    hasher: Xxh3,
}

impl Frames<'_> {
    /// The next part, and the checksum over everything before it.
    fn next(&mut self) -> Result<(Part, u64), SnapshotError> {
        let before = self.hasher.digest();
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(SnapshotError::Damaged("a frame is too long"));
        }
        let mut buffer = vec![];
        (&mut *self.input)
            .take(bytes as u64)
            .read_to_end(&mut buffer)?;
        if buffer.len() < bytes {
            return Err(SnapshotError::Damaged("it ends inside a frame"));
        }
        self.hasher.update(&length);
        self.hasher.update(&buffer);
        let part = repr::codec::decode(1..=SNAPSHOT_VERSION, FRAME_BYTES_MAX, &buffer)?;
        Ok((part, before))
    }
}

/// A state under construction.
struct Loader {
    header: Header,
    catalog: Catalog,
    sessions: Sessions,
    stages: Stages,
    members: Members,
    shards: BTreeMap<ShardId, Arc<Shard>>,
    attempt: Option<(Session, Staged)>,
    current: Option<Loading>,
}

/// What the rows that follow belong to.
enum Loading {
    Shard(Box<LoadingShard>),
    Staged(Box<LoadingStaged>),
}

struct LoadingShard {
    shard: Shard,
    builder: BatchBuilder,
    expected: ShardHeader,
}

struct LoadingStaged {
    staged: StagedShard,
    builder: BatchBuilder,
}

impl Loader {
    fn new(mut header: Header) -> Loader {
        let catalog = std::mem::take(&mut header.catalog);
        let mut ended = Ended::default();
        header
            .ended
            .iter()
            .for_each(|(index, session)| ended.insert(*index, *session));
        let sessions = Sessions {
            gateways: Arc::new(std::mem::take(&mut header.gateways)),
            ended: Arc::new(ended),
            horizon: header.dedup_horizon,
            ..Sessions::default()
        };
        Loader {
            header,
            catalog,
            sessions,
            stages: Stages::default(),
            members: Members::default(),
            shards: BTreeMap::new(),
            attempt: None,
            current: None,
        }
    }

    fn items(&mut self, items: Vec<Arc<Item>>) {
        for item in items {
            self.catalog
                .names
                .insert((item.schema, item.name.clone()), item.id);
            self.catalog.items.insert(item.id, item);
        }
    }

    fn sessions(&mut self, sessions: Vec<(Session, u64, Outcome)>) {
        sessions
            .into_iter()
            .for_each(|(session, seq, outcome)| self.sessions.record(session, seq, outcome));
    }

    fn shard(&mut self, header: ShardHeader) -> Result<(), SnapshotError> {
        self.close_shard()?;
        let owner = self
            .catalog
            .items
            .values()
            .find(|item| item.shard() == Some(header.id));
        let owner = owner.ok_or(SnapshotError::Damaged("a shard belongs to no item"))?;
        let spaces = match &owner.kind {
            ItemKind::Table(table) => {
                KeySpace::of_table(table).ok_or(SnapshotError::Damaged("a key names no column"))?
            }
            ItemKind::Source(_)
            | ItemKind::View(_)
            | ItemKind::MaterializedView(_)
            | ItemKind::Index(_) => vec![],
        };
        let arity = owner.columns().map_or(0, <[_]>::len);
        let mut shard = Shard::new(header.id, arity, spaces.into(), header.created);
        shard.last_write = header.last_write;
        self.current = Some(Loading::Shard(Box::new(LoadingShard {
            shard,
            builder: BatchBuilder::default(),
            expected: header,
        })));
        Ok(())
    }

    /// What an older version wrote before the shards: it is checked when it is linked.
    fn old_staged(&mut self, session: Session, seq: u64, writes: &[Write]) {
        self.stages.add(session, seq, writes, &BTreeMap::new());
    }

    fn attempt(&mut self, session: Session, staged: Staged) -> Result<(), SnapshotError> {
        self.close_attempt()?;
        self.attempt = Some((session, staged));
        Ok(())
    }

    fn staged_shard(
        &mut self,
        id: ShardId,
        known: bool,
        truncate: bool,
    ) -> Result<(), SnapshotError> {
        self.close_shard()?;
        let stored = self.shards.get(&id).map(|shard| &**shard);
        self.current = Some(Loading::Staged(Box::new(LoadingStaged {
            staged: StagedShard::restored(id, stored, known, truncate),
            builder: BatchBuilder::default(),
        })));
        Ok(())
    }

    fn close_attempt(&mut self) -> Result<(), SnapshotError> {
        self.close_shard()?;
        if let Some((session, staged)) = self.attempt.take() {
            self.stages.put(session, staged);
        }
        Ok(())
    }

    fn rows(&mut self, rows: Vec<RowUpdates>) -> Result<(), SnapshotError> {
        let current = self
            .current
            .as_mut()
            .ok_or(SnapshotError::Damaged("rows belong to no shard"))?;
        rows.iter().try_for_each(|(row, updates)| match current {
            Loading::Shard(shard) => shard.push(row, updates),
            Loading::Staged(staged) => staged.push(row, updates),
        })
    }

    fn close_shard(&mut self) -> Result<(), SnapshotError> {
        match self.current.take() {
            Some(Loading::Shard(loading)) => {
                let shard = loading.finish()?;
                self.shards.insert(shard.id, Arc::new(shard));
            }
            Some(Loading::Staged(loading)) => {
                let (_, attempt) = self.attempt.as_mut().ok_or(SnapshotError::Damaged(
                    "staged updates belong to no session",
                ))?;
                let staged = loading.finish();
                attempt.shards.insert(staged.updates.id(), staged);
            }
            None => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<State, SnapshotError> {
        self.close_attempt()?;
        let header = self.header;
        let stored = self
            .shards
            .values()
            .map(|shard| shard.bytes + shard.rows * ROW_OVERHEAD_BYTES)
            .sum::<u64>();
        if stored != header.stored_bytes {
            return Err(SnapshotError::Damaged("shards are missing"));
        }
        let holds = header
            .holds
            .into_iter()
            .map(|(cluster, (incarnation, frontiers))| {
                (
                    cluster,
                    InputHold {
                        incarnation,
                        frontiers,
                    },
                )
            });
        Ok(State {
            environment: header.environment,
            generation: header.generation,
            applied: header.applied,
            last_ts: header.last_ts,
            read_floor: header.read_floor,
            catalog: Arc::new(self.catalog),
            shards: self.shards,
            holds: Arc::new(holds.collect()),
            leases: Arc::new(header.leases),
            sessions: self.sessions,
            stages: Arc::new(self.stages),
            members: Arc::new(self.members),
            stored_bytes: header.stored_bytes,
            chain: header.chain,
        })
    }
}

impl LoadingShard {
    fn push(&mut self, row: &repr::Row, updates: &[(Timestamp, i64)]) -> Result<(), SnapshotError> {
        let ordered = self
            .builder
            .last_row()
            .is_none_or(|last| last < row.as_bytes());
        if !ordered
            || row.arity() != self.shard.arity
            || updates.is_empty()
            || !updates.is_sorted_by(|a, b| a.0 < b.0)
        {
            return Err(SnapshotError::Damaged("rows are out of order"));
        }
        updates
            .iter()
            .for_each(|(time, diff)| self.builder.push(row.as_ref(), *time, *diff));
        let count = updates
            .iter()
            .fold(0i64, |sum, (_, diff)| sum.wrapping_add(*diff));
        let count = u64::try_from(count)
            .map_err(|_| SnapshotError::Damaged("a row occurs less than never"))?;
        let shard = &mut self.shard;
        shard.rows = shard.rows.wrapping_add(count);
        shard.bytes = shard
            .bytes
            .wrapping_add(count.wrapping_mul(row.byte_len() as u64));
        shard.content = shard
            .content
            .wrapping_add(row_hash(shard.id, row.as_ref()).wrapping_mul(count));
        if self.builder.row_bytes() >= BATCH_BYTES {
            self.close_batch();
        }
        Ok(())
    }

    fn close_batch(&mut self) {
        let batch = std::mem::take(&mut self.builder).finish(&self.shard.spaces);
        self.shard
            .batches
            .extend((batch.updates() > 0).then(|| Arc::new(batch)));
    }

    fn finish(mut self) -> Result<Shard, SnapshotError> {
        self.close_batch();
        let (shard, expected) = (self.shard, self.expected);
        if (shard.rows, shard.bytes, shard.content)
            != (expected.rows, expected.bytes, expected.content)
        {
            return Err(SnapshotError::Damaged(
                "the rows of a shard are not those that were written",
            ));
        }
        Ok(shard)
    }
}

impl LoadingStaged {
    fn push(&mut self, row: &repr::Row, updates: &[(Timestamp, i64)]) -> Result<(), SnapshotError> {
        let last = self.builder.last_row();
        let ordered = last.is_none_or(|last| last < row.as_bytes());
        let fits = !self.staged.known || row.arity() == self.staged.updates.arity;
        match updates {
            [(0, diff)] if ordered && fits => self.builder.push(row.as_ref(), 0, *diff),
            _ => return Err(SnapshotError::Damaged("staged rows are out of order")),
        }
        if self.builder.row_bytes() >= BATCH_BYTES {
            self.close_batch();
        }
        Ok(())
    }

    fn close_batch(&mut self) {
        let spaces = &self.staged.updates.spaces;
        let batch = std::mem::take(&mut self.builder).finish(spaces);
        self.staged.put(batch);
    }

    fn finish(mut self) -> StagedShard {
        self.close_batch();
        self.staged
    }
}
