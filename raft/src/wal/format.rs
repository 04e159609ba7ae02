//! The bytes of a segment file: sectors, segment header, batches.
//!
//! A segment is a row of 512-byte sectors. Each begins with a two-byte tag; the other 510 bytes carry the *stream*:
//! one segment header, then batches, back to back. A sector never written reads as zeros, tag included, and that is
//! how a torn write is told from damage: no single changed byte turns a tag, a magic or a mark into zeros. A header
//! never spans two sectors ([`batch_start`]), so a device writes it whole or not at all.
//!
//! ```text
//! segment header  magic 4 | version 4 | wal id 8 | segment 8 | file bytes 8 | first batch 8 | crc 4 | mark 4
//! batch           magic 4 | body bytes 4 | number 8 | segment 8 | synced 8 | chain 4 | body crc 4 | crc 4 | mark 4
//!                 body | end mark 8
//! ```
//! `synced` is the length of the stream that was durable before this batch: its own offset, since only one batch is
//! ever in flight. `chain` is the body CRC of the batch before. Numbers are little-endian, CRCs are CRC32C.

/// What a device writes whole, and the unit of the framing.
pub(super) const SECTOR_BYTES: usize = 512;
/// First bytes of every written sector.
pub(super) const TAG: [u8; 2] = [0xc5, 0x7a];
/// Stream bytes in a sector.
const SECTOR_ROOM: usize = SECTOR_BYTES - TAG.len();

const FORMAT_VERSION: u32 = 1;
const SEGMENT_MAGIC: [u8; 4] = *b"cSEG";
const BATCH_MAGIC: [u8; 4] = [0xb7, 0x57, 0xa1, 0xc3];
const HEADER_MARK: [u8; 4] = [0x96, 0xe3, 0x5d, 0x7b];
const END_MARK: [u8; 8] = [0x8b, 0x1d, 0xf2, 0x63, 0xa7, 0x4e, 0xd9, 0x35];

/// Bytes of either header.
pub(super) const HEADER_BYTES: usize = 48;
/// Bytes that a batch adds to its body.
pub(super) const BATCH_OVERHEAD: usize = HEADER_BYTES + END_MARK.len();

/// Stream bytes that fit into a file of `file_bytes`.
pub(super) fn stream_capacity(file_bytes: u64) -> usize {
    (file_bytes as usize / SECTOR_BYTES) * SECTOR_ROOM
}

/// Where byte `stream` of the stream lies in the file.
pub(super) fn file_offset(stream: usize) -> usize {
    (stream / SECTOR_ROOM) * SECTOR_BYTES + TAG.len() + stream % SECTOR_ROOM
}

/// Frames `stream` bytes that start at stream offset `at`; returns the file offset to write `out` at. The tag of a
/// sector goes with the first byte in it.
pub(super) fn frame(at: usize, stream: &[u8], out: &mut Vec<u8>) -> usize {
    out.clear();
    let mut position = at;
    let mut rest = stream;
    while !rest.is_empty() {
        let in_sector = position % SECTOR_ROOM;
        if in_sector == 0 {
            out.extend_from_slice(&TAG);
        }
        let n = rest.len().min(SECTOR_ROOM - in_sector);
        out.extend_from_slice(&rest[..n]);
        position += n;
        rest = &rest[n..];
    }
    let start = file_offset(at);
    if at.is_multiple_of(SECTOR_ROOM) {
        start - TAG.len()
    } else {
        start
    }
}

/// Copies stream bytes `at..at + out.len()` out of `file`, whose first byte is byte `base` (a sector boundary) of the
/// file. False when the file ends before.
pub(super) fn unframe(file: &[u8], base: usize, at: usize, out: &mut [u8]) -> bool {
    let mut position = at;
    let mut done = 0;
    while done < out.len() {
        let n = (out.len() - done).min(SECTOR_ROOM - position % SECTOR_ROOM);
        let start = file_offset(position) - base;
        let Some(piece) = file.get(start..start + n) else {
            return false;
        };
        out[done..done + n].copy_from_slice(piece);
        position += n;
        done += n;
    }
    true
}

/// Where the batch after stream offset `at` begins: here, or in the next sector if its header does not fit into this
/// one. The bytes passed over mean nothing.
pub(super) fn batch_start(at: usize) -> usize {
    let room = SECTOR_ROOM - at % SECTOR_ROOM;
    if room < HEADER_BYTES { at + room } else { at }
}

/// The tags of all sectors that hold a byte of stream range `at..end`.
pub(super) enum Tags {
    /// All as they should be.
    Good,
    /// At least one sector was never written; no other tag is wrong.
    Unwritten,
    /// The tag at this file offset is neither right nor zero.
    Bad(usize),
}

/// Checks the tags of the sectors of stream range `at..end` in `file`.
pub(super) fn check_tags(file: &[u8], at: usize, end: usize) -> Tags {
    let mut result = Tags::Good;
    for sector in at / SECTOR_ROOM..end.div_ceil(SECTOR_ROOM) {
        let start = sector * SECTOR_BYTES;
        match file.get(start..start + TAG.len()) {
            Some(tag) if tag == TAG => {}
            None | Some([0, 0]) => result = Tags::Unwritten,
            // Cut inside the tag: then nothing after it was written either, the end mark least of all.
            Some([first, 0])
                if *first == TAG[0] && all_zero(file, start + TAG.len(), file_offset(end - 1)) =>
            {
                result = Tags::Unwritten;
            }
            Some(_) => return Tags::Bad(start),
        }
    }
    result
}

/// What a header's 48 bytes turn out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header<T> {
    /// A whole, sound header.
    Written(T),
    /// Never written, or only in part.
    Unwritten,
    /// Changed after it was written.
    Damaged,
}

/// The header of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Random; all segments of one log share it.
    pub wal_id: u64,
    /// Counts from 1; also the file's name.
    pub segment: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Number of the first batch in it.
    pub first_batch: u64,
}

impl SegmentHeader {
    /// Appends the header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let SegmentHeader {
            wal_id,
            segment,
            file_bytes,
            first_batch,
        } = self;
        let start = out.len();
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&wal_id.to_le_bytes());
        out.extend_from_slice(&segment.to_le_bytes());
        out.extend_from_slice(&file_bytes.to_le_bytes());
        out.extend_from_slice(&first_batch.to_le_bytes());
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&HEADER_MARK);
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Header<SegmentHeader> {
        if unwritten(bytes) {
            return Header::Unwritten;
        }
        let sound = bytes[..4] == SEGMENT_MAGIC
            && u32_at(bytes, 4) == FORMAT_VERSION
            && u32_at(bytes, 40) == crc32c::crc32c(&bytes[..40]);
        if !sound {
            return Header::Damaged;
        }
        Header::Written(SegmentHeader {
            wal_id: u64_at(bytes, 8),
            segment: u64_at(bytes, 16),
            file_bytes: u64_at(bytes, 24),
            first_batch: u64_at(bytes, 32),
        })
    }
}

/// The header of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Counts from 1 through all segments.
    pub number: u64,
    /// The segment it is in.
    pub segment: u64,
    /// Its own stream offset.
    pub synced: u64,
    /// CRC of the body of batch `number - 1`.
    pub chain: u32,
    /// CRC of its body.
    pub body_crc: u32,
}

impl BatchHeader {
    /// The header's bytes; `wal_id` is mixed into the CRC, so that a batch of another log is never taken for ours.
    pub fn encode(&self, wal_id: u64) -> [u8; HEADER_BYTES] {
        let BatchHeader {
            body_bytes,
            number,
            segment,
            synced,
            chain,
            body_crc,
        } = self;
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&BATCH_MAGIC);
        out[4..8].copy_from_slice(&body_bytes.to_le_bytes());
        out[8..16].copy_from_slice(&number.to_le_bytes());
        out[16..24].copy_from_slice(&segment.to_le_bytes());
        out[24..32].copy_from_slice(&synced.to_le_bytes());
        out[32..36].copy_from_slice(&chain.to_le_bytes());
        out[36..40].copy_from_slice(&body_crc.to_le_bytes());
        let crc = batch_header_crc(wal_id, &out);
        out[40..44].copy_from_slice(&crc.to_le_bytes());
        out[44..].copy_from_slice(&HEADER_MARK);
        out
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8; HEADER_BYTES], wal_id: u64) -> Header<BatchHeader> {
        if unwritten(bytes) {
            return Header::Unwritten;
        }
        let sound =
            bytes[..4] == BATCH_MAGIC && u32_at(bytes, 40) == batch_header_crc(wal_id, bytes);
        if !sound {
            return Header::Damaged;
        }
        Header::Written(BatchHeader {
            body_bytes: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            segment: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
            chain: u32_at(bytes, 32),
            body_crc: u32_at(bytes, 36),
        })
    }

    /// Stream bytes of the whole batch.
    pub fn batch_bytes(&self) -> usize {
        BATCH_OVERHEAD + self.body_bytes as usize
    }
}

/// A batch under construction: room for the header, then the body.
pub(super) fn begin_batch(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    start
}

/// Closes the batch begun at `start`: `header` without sizes and CRCs is completed, written and returned.
pub(super) fn end_batch(
    out: &mut Vec<u8>,
    start: usize,
    mut header: BatchHeader,
    wal_id: u64,
) -> BatchHeader {
    let body = &out[start + HEADER_BYTES..];
    header.body_bytes =
        u32::try_from(body.len()).expect("the writer bounds a batch far below 4 GiB");
    header.body_crc = crc32c::crc32c(body);
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode(wal_id));
    out.extend_from_slice(&END_MARK);
    header
}

/// State of a batch whose header is sound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// All there.
    Sound,
    /// Written in part: the process or the machine died.
    Torn,
    /// Changed at or after this file offset.
    Damaged(usize),
}

/// Checks body, end mark and sector tags of the batch at stream offset `at` of `file`; `stream` is body and end mark.
pub(super) fn check_body(file: &[u8], at: usize, header: &BatchHeader, stream: &[u8]) -> Body {
    let (body, end_mark) = stream.split_at(header.body_bytes as usize);
    let body_good = crc32c::crc32c(body) == header.body_crc;
    match check_tags(file, at, at + header.batch_bytes()) {
        Tags::Bad(offset) => Body::Damaged(offset),
        Tags::Unwritten => Body::Torn,
        // A changed end mark after a sound body does no harm.
        Tags::Good if body_good => Body::Sound,
        Tags::Good if end_mark == [0; END_MARK.len()] => Body::Torn,
        Tags::Good => Body::Damaged(file_offset(at)),
    }
}

/// True when a sound batch header of this log with a number of at least `from` lies in the stream at or after
/// `after`; returns its stream offset.
pub(super) fn find_batch(
    file: &[u8],
    capacity: usize,
    after: usize,
    wal_id: u64,
    from: u64,
) -> Option<usize> {
    let mut at = after;
    let mut header = [0; HEADER_BYTES];
    while at + HEADER_BYTES <= capacity {
        // Sectors of zeros, nearly all of an unfinished segment, are passed over whole.
        let sector = (at / SECTOR_ROOM) * SECTOR_BYTES;
        let bytes = file.get(sector..sector + SECTOR_BYTES)?;
        if bytes.iter().all(|b| *b == 0) {
            at = (at / SECTOR_ROOM + 1) * SECTOR_ROOM;
            continue;
        }
        if file.get(file_offset(at)) == Some(&BATCH_MAGIC[0])
            && unframe(file, 0, at, &mut header)
            && let Header::Written(found) = BatchHeader::decode(&header, wal_id)
            && found.number >= from
        {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn all_zero(file: &[u8], from: usize, to_inclusive: usize) -> bool {
    let to = (to_inclusive + 1).min(file.len());
    from >= to || file[from..to].iter().all(|b| *b == 0)
}

/// Magic or mark of zeros: never written, or cut before the mark. What a mark holds otherwise does not matter.
fn unwritten(header: &[u8; HEADER_BYTES]) -> bool {
    header[..4] == [0; 4] || header[44..] == [0; 4]
}

fn batch_header_crc(wal_id: u64, header: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&wal_id.to_le_bytes()), &header[..40])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_undone_at_any_offset() {
        let stream: Vec<u8> = (0..3000u32).map(|i| i as u8 | 1).collect();
        for split in [1, 509, 510, 511, 1020, 1021, 2999] {
            let mut file = vec![0; 4096];
            let mut piece = Vec::new();
            let at = frame(0, &stream[..split], &mut piece);
            file[at..at + piece.len()].copy_from_slice(&piece);
            let at = frame(split, &stream[split..], &mut piece);
            file[at..at + piece.len()].copy_from_slice(&piece);
            let mut back = vec![0; stream.len()];
            assert!(unframe(&file, 0, 0, &mut back));
            assert_eq!(back, stream);
            assert!(matches!(check_tags(&file, 0, stream.len()), Tags::Good));
            let mut back = vec![0; 700];
            assert!(unframe(&file[1024..], 1024, 1020, &mut back));
            assert_eq!(back, stream[1020..1720]);
        }
    }

    #[test]
    fn every_flip_in_a_header_is_damage() {
        let segment = SegmentHeader {
            wal_id: 7,
            segment: 0,
            file_bytes: 512,
            first_batch: 1,
        };
        let mut bytes = Vec::new();
        segment.encode(&mut bytes);
        let segment_bytes: [u8; HEADER_BYTES] = bytes.try_into().unwrap();
        assert_eq!(
            SegmentHeader::decode(&segment_bytes),
            Header::Written(segment)
        );
        let batch = BatchHeader {
            body_bytes: 0,
            number: 0,
            segment: 0,
            synced: 0,
            chain: 0,
            body_crc: 0,
        };
        let batch_bytes = batch.encode(7);
        assert_eq!(BatchHeader::decode(&batch_bytes, 7), Header::Written(batch));
        assert_eq!(BatchHeader::decode(&batch_bytes, 8), Header::Damaged);
        for at in 0..HEADER_BYTES {
            for mask in 1..=255u8 {
                let (mut s, mut b) = (segment_bytes, batch_bytes);
                s[at] ^= mask;
                b[at] ^= mask;
                // The mark only tells whether the header was written whole.
                let harmless = at >= 44;
                assert_eq!(SegmentHeader::decode(&s) == Header::Damaged, !harmless);
                assert_eq!(BatchHeader::decode(&b, 7) == Header::Damaged, !harmless);
                assert_ne!(BatchHeader::decode(&b, 7), Header::Unwritten);
            }
        }
        assert_eq!(
            BatchHeader::decode(&[0; HEADER_BYTES], 7),
            Header::Unwritten
        );
    }
}
