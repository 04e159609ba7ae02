//! Reading the log at start: where it ends, what it says, and whether it can be believed.
//!
//! The last batch may be *torn*, because the process or the machine died while writing it; it was never acknowledged
//! and is cut off. Everything else that is not as it was written is *damage* and refused: a batch whose sectors are
//! all there but whose CRC is wrong, a bad batch with a sound one after it, a missing segment.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use host::{Disk, OpenMode};

use super::WalError;
use super::format::{self, BatchHeader, Body, HEADER_BYTES, Header, SegmentHeader};
use super::record::{self, Record};
use super::segment::{self, Segment};
use crate::GroupId;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u64,
    /// Offset in the segment's stream.
    pub at: u32,
    /// Bytes of the record.
    pub bytes: u32,
}

/// The end of the log: where the next batch goes.
pub(super) struct Tail {
    pub wal_id: u64,
    /// All written segments, oldest first; the last is the one to write on.
    pub segments: Vec<Segment>,
    /// Stream offset in the last segment.
    pub at: usize,
    /// Number of the next batch.
    pub next_batch: u64,
    /// CRC of the last batch's body.
    pub chain: u32,
    /// File offset in the last segment after which all is zero.
    pub dirty_to: usize,
}

/// Gets every record in order, and how many bytes the body has that it was read from.
pub(super) type Visit<'a> = dyn FnMut(GroupId, Record, Place, usize) + 'a;

/// Reads the whole log in `dir`, once, a segment at a time; `visit` gets every record. `None`: there is no log. With `expected` that is damage.
///
/// Segment files after the end, made ahead and never used, are removed. The tail is made durable, so that what a
/// dead process wrote but did not sync cannot vanish after having been read.
pub(super) fn scan(
    disk: &dyn Disk,
    dir: &Path,
    expected: bool,
    visit: &mut Visit<'_>,
) -> Result<Option<Tail>, WalError> {
    let numbers = segment_numbers(disk, dir)?;
    let mut scanner = Scanner {
        disk,
        dir,
        tail: None,
        visit,
    };
    let mut unused = Vec::new();
    for number in numbers {
        if scanner.segment(number)? {
            if let Some(earlier) = unused.first() {
                return Err(scanner.damaged(
                    *earlier,
                    0,
                    "its header is gone, but a later segment is written",
                ));
            }
        } else {
            unused.push(number);
        }
    }
    if expected && scanner.tail.is_none() {
        // Before anything is removed: what is left may help those who look for what happened.
        return Err(match unused.first() {
            Some(number) => scanner.damaged(*number, 0, "the segment header is gone"),
            None => WalError::WrongFile {
                path: dir.to_owned(),
                reason: "it has no log, but did have one",
            },
        });
    }
    let Scanner { tail, .. } = scanner;
    // The highest first, so that a crash in between leaves no gap.
    for number in unused.iter().rev() {
        let path = segment::path(dir, *number);
        disk.remove(&path)
            .map_err(|e| WalError::io("remove", path, e))?;
    }
    if let Some(tail) = &tail {
        let last = tail
            .segments
            .last()
            .expect("a tail has the segment it is in");
        clear_rest(dir, last, tail)?;
    }
    Ok(tail)
}

fn segment_numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, WalError> {
    let names = disk.list(dir).map_err(|e| WalError::io("list", dir, e))?;
    let numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::number(name))
        .collect();
    Ok(numbers)
}

struct Scanner<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    tail: Option<Tail>,
    visit: &'a mut Visit<'a>,
}

/// How the batches of one segment end.
enum End {
    /// The next batch was never written or only in part; `reason` says what damage it is if anything follows.
    Open {
        at: usize,
        torn: bool,
        reason: &'static str,
    },
    /// No room for another batch.
    Full,
}

impl Scanner<'_> {
    fn path(&self, number: u64) -> PathBuf {
        segment::path(self.dir, number)
    }

    fn damaged(&self, number: u64, offset: usize, reason: &'static str) -> WalError {
        WalError::Damaged {
            path: self.path(number),
            offset: offset as u64,
            reason,
        }
    }

    /// Reads one segment; false when it was never used.
    fn segment(&mut self, number: u64) -> Result<bool, WalError> {
        let path = self.path(number);
        let (bytes, file_bytes) =
            read_data(self.disk, &path).map_err(|e| WalError::io("read", &path, e))?;
        let mut head = [0; HEADER_BYTES];
        let header = match format::unframe(&bytes, 0, 0, &mut head) {
            true => SegmentHeader::decode(&head),
            false => Header::Unwritten,
        };
        match header {
            Header::Damaged => {
                Err(self.damaged(number, 0, "the segment header's checksum is wrong"))
            }
            Header::Unwritten => self.unused(number, &bytes),
            Header::Written(header) => {
                self.enter(number, &header, file_bytes)?;
                self.batches(number, &header, bytes.into())?;
                Ok(true)
            }
        }
    }

    /// A segment without a header holds no batch, or it is damaged.
    fn unused(&self, number: u64, bytes: &[u8]) -> Result<bool, WalError> {
        let Some(tail) = &self.tail else {
            return Ok(false);
        };
        let capacity = format::stream_capacity(bytes.len() as u64);
        match format::find_batch(bytes, capacity, 0, tail.wal_id, tail.next_batch) {
            Some(_) => Err(self.damaged(number, 0, "the segment header is gone")),
            None => Ok(false),
        }
    }

    /// Checks that the segment continues the log, and makes it the tail.
    fn enter(&mut self, number: u64, header: &SegmentHeader, bytes: usize) -> Result<(), WalError> {
        let path = self.path(number);
        let wrong = |reason| WalError::WrongFile {
            path: path.clone(),
            reason,
        };
        let before = self.tail.as_ref().and_then(|tail| tail.segments.last());
        if let Some(before) = before.filter(|before| before.number + 1 != number) {
            let path = self.path(before.number + 1);
            return Err(WalError::WrongFile {
                path,
                reason: "the file is missing",
            });
        }
        if header.segment != number {
            return Err(wrong("the file holds another segment than its name says"));
        }
        if (bytes as u64) < header.file_bytes {
            return Err(self.damaged(number, bytes, "the file is shorter than it was made"));
        }
        let disk_file = self
            .disk
            .open(&path, OpenMode::Write)
            .map_err(|e| WalError::io("open", &path, e))?;
        let segment = Segment {
            number,
            file: Arc::from(disk_file),
            file_bytes: header.file_bytes,
        };
        let tail = self.tail.get_or_insert_with(|| Tail {
            wal_id: header.wal_id,
            segments: Vec::new(),
            at: 0,
            next_batch: header.first_batch,
            chain: 0,
            dirty_to: 0,
        });
        if tail.wal_id != header.wal_id {
            return Err(wrong("the file belongs to another log"));
        }
        if tail.next_batch != header.first_batch {
            // The segment before ended early although this one follows it.
            let (before, at) = (number - 1, tail.at);
            return Err(self.damaged(
                before,
                format::file_offset(at),
                "a batch is gone, but later ones are there",
            ));
        }
        tail.segments.push(segment);
        tail.at = HEADER_BYTES;
        Ok(())
    }

    fn batches(
        &mut self,
        number: u64,
        header: &SegmentHeader,
        file: Bytes,
    ) -> Result<(), WalError> {
        let capacity = format::stream_capacity(header.file_bytes);
        let dirty_to = written_end(&file);
        self.tail.as_mut().expect("entered").dirty_to = dirty_to;
        match self.read_batches(number, capacity, &file)? {
            End::Full => Ok(()),
            End::Open { at, torn, reason } => {
                let tail = self.tail.as_ref().expect("entered");
                // The header of a torn batch is sound itself: look for one after it.
                let (after, from) = if torn {
                    (at + 1, tail.next_batch + 1)
                } else {
                    (at, tail.next_batch)
                };
                let written = &file[..dirty_to
                    .next_multiple_of(format::SECTOR_BYTES)
                    .min(file.len())];
                if format::find_batch(written, capacity, after, tail.wal_id, from).is_some() {
                    return Err(self.damaged(number, format::file_offset(at), reason));
                }
                Ok(())
            }
        }
    }

    fn read_batches(
        &mut self,
        number: u64,
        capacity: usize,
        file: &Bytes,
    ) -> Result<End, WalError> {
        loop {
            let tail = self.tail.as_ref().expect("entered");
            let at = format::batch_start(tail.at);
            if at + format::BATCH_OVERHEAD > capacity {
                return Ok(End::Full);
            }
            let mut head = [0; HEADER_BYTES];
            if !format::unframe(file, 0, at, &mut head) {
                return Ok(End::Open {
                    at,
                    torn: false,
                    reason: "the file ends early",
                });
            }
            let header = match BatchHeader::decode(&head, tail.wal_id) {
                Header::Unwritten => {
                    return Ok(End::Open {
                        at,
                        torn: false,
                        reason: "a batch header is gone",
                    });
                }
                Header::Damaged => {
                    let offset = format::file_offset(at);
                    return Err(self.damaged(number, offset, "a batch header's checksum is wrong"));
                }
                Header::Written(header) => header,
            };
            self.check_header(number, at, capacity, &header)?;
            let stream_at = at + HEADER_BYTES;
            let mut stream = vec![0; header.batch_bytes() - HEADER_BYTES];
            if !format::unframe(file, 0, stream_at, &mut stream) {
                return Ok(End::Open {
                    at,
                    torn: false,
                    reason: "the file ends early",
                });
            }
            match format::check_body(file, at, &header, &stream) {
                Body::Torn => {
                    return Ok(End::Open {
                        at,
                        torn: true,
                        reason: "a batch was written only in part",
                    });
                }
                Body::Damaged(offset) => {
                    return Err(self.damaged(number, offset, "a batch's checksum is wrong"));
                }
                Body::Sound => {}
            }
            stream.truncate(header.body_bytes as usize);
            self.records(number, stream_at, stream.into())?;
            let tail = self.tail.as_mut().expect("entered");
            tail.at = at + header.batch_bytes();
            tail.next_batch = header.number + 1;
            tail.chain = header.body_crc;
        }
    }

    /// The header is sound; it must also be the one that belongs here.
    fn check_header(
        &self,
        number: u64,
        at: usize,
        cap: usize,
        header: &BatchHeader,
    ) -> Result<(), WalError> {
        let tail = self.tail.as_ref().expect("entered");
        // What the first segment continues has been deleted, so its first batch's chain is not known.
        let first = tail.segments.len() == 1 && tail.at == HEADER_BYTES;
        let belongs = header.segment == number
            && header.number == tail.next_batch
            && header.synced == at as u64
            && (first || header.chain == tail.chain)
            && at + header.batch_bytes() <= cap;
        if belongs {
            return Ok(());
        }
        Err(self.damaged(
            number,
            format::file_offset(at),
            "a batch that does not belong here",
        ))
    }

    fn records(&mut self, number: u64, stream_at: usize, mut body: Bytes) -> Result<(), WalError> {
        let (mut at, body_bytes) = (stream_at, body.len());
        while !body.is_empty() {
            let Some((group, record, bytes)) = record::decode(&body) else {
                return Err(self.damaged(
                    number,
                    format::file_offset(at),
                    "a record's checksum is wrong",
                ));
            };
            let place = Place {
                segment: number,
                at: at as u32,
                bytes: bytes as u32,
            };
            (self.visit)(group, record, place, body_bytes);
            body = body.slice(bytes..);
            at += bytes;
        }
        Ok(())
    }
}

/// The file without the zeros at its end, in whole sectors, and its size.
fn read_data(disk: &dyn Disk, path: &Path) -> io::Result<(Vec<u8>, usize)> {
    let file = disk.open(path, OpenMode::Read)?;
    let file_bytes = file.len()?;
    let end = file
        .data_end()?
        .next_multiple_of(format::SECTOR_BYTES as u64);
    let mut bytes = vec![0; end.min(file_bytes) as usize];
    file.read_exact_at(0, &mut bytes)?;
    Ok((bytes, file_bytes as usize))
}

/// Offset after which `file` holds only zeros. Most of an unfinished segment is, so whole chunks are compared.
fn written_end(file: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = file.len();
    while end > 0 {
        let start = end.saturating_sub(ZEROS.len());
        if file[start..end] != ZEROS[..end - start] {
            break;
        }
        end = start;
    }
    file[..end]
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1)
}

/// Zeroes what a torn batch left after the tail, and makes the segment durable.
fn clear_rest(dir: &Path, segment: &Segment, tail: &Tail) -> Result<(), WalError> {
    let path = segment::path(dir, segment.number);
    let io = |e| WalError::io("clear the tail of", &path, e);
    // The byte at the tail, or the tag before it, is the first that no acknowledged batch owns.
    let mut from = format::file_offset(tail.at);
    if from % format::SECTOR_BYTES == format::TAG.len() {
        from -= format::TAG.len();
    }
    if from < tail.dirty_to {
        let zeros = vec![0; tail.dirty_to - from];
        segment.file.write_at(from as u64, &zeros).map_err(io)?;
    }
    segment.file.sync_data().map_err(io)
}
