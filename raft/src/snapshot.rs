//! Snapshot files: a header block with what the snapshot covers, data blocks, an end block; each with its CRC.
//!
//! ```text
//! block  magic 4 | payload bytes 4 | number 4 | kind 4 | crc 4 | payload
//! ```
//! The CRC covers the fields before it and the payload, the number counts blocks from zero, the end block tells how
//! many bytes the data blocks hold, and the file ends with it: so every byte of the file is checked. A file gets its
//! name `<index>.snap` only after it is durable, so a file of that name is whole or damaged, never unfinished.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use host::{Disk, DiskFile, OpenMode};

use crate::codec::{Reader, Writer};
use crate::error::SnapshotError;
use crate::types::{SnapshotMeta, log_pos};

const MAGIC: [u8; 4] = *b"cSNP";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
/// Payload of a data block.
const BLOCK_BYTES: usize = 256 << 10;
/// Any payload: the header block's is bounded by the limits of a membership.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

const KIND_HEADER: u32 = 1;
const KIND_DATA: u32 = 2;
const KIND_END: u32 = 3;

/// A finished snapshot file, open for reading. It stays readable after its name is gone.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub file_bytes: u64,
    pub meta: SnapshotMeta,
}

/// The snapshots of one group.
#[derive(Clone)]
pub(crate) struct SnapshotDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl SnapshotDir {
    /// The snapshots in `dir`, which is created when missing. Unfinished files are removed.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<SnapshotDir, SnapshotError> {
        disk.create_dir_all(dir)
            .map_err(|e| SnapshotError::io("create the directory of", dir, e))?;
        let snapshots = SnapshotDir {
            disk,
            dir: dir.to_owned(),
        };
        for name in snapshots.names()? {
            if name.ends_with(".tmp") {
                snapshots.remove(&name)?;
            }
        }
        Ok(snapshots)
    }

    /// Removes a group's directory of snapshots; one that is not there is removed already.
    pub fn remove_all(disk: &dyn Disk, dir: &Path) -> Result<(), SnapshotError> {
        let io = |e| SnapshotError::io("remove", dir, e);
        let names = match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.map_err(io)?,
        };
        for name in names {
            disk.remove(&dir.join(name)).map_err(io)?;
        }
        // Their absence must not be durable before theirs is.
        disk.sync_dir(dir).map_err(io)?;
        disk.remove_dir(dir).map_err(io)?;
        dir.parent()
            .map_or(Ok(()), |parent| disk.sync_dir(parent))
            .map_err(io)
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        self.disk
            .list(&self.dir)
            .map_err(|e| SnapshotError::io("list", &self.dir, e))
    }

    fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.dir.join(name);
        self.disk
            .remove(&path)
            .map_err(|e| SnapshotError::io("remove", path, e))
    }

    /// The newest snapshot, with its header block checked. Names are hexadecimal of fixed width, so they sort.
    pub fn newest(&self) -> Result<Option<SnapshotFile>, SnapshotError> {
        let names = self.names()?;
        let Some(name) = names.iter().rfind(|name| name.ends_with(".snap")) else {
            return Ok(None);
        };
        self.file(self.dir.join(name)).map(Some)
    }

    fn file(&self, path: PathBuf) -> Result<SnapshotFile, SnapshotError> {
        let io = |e| SnapshotError::io("open", &path, e);
        let file: Arc<dyn DiskFile> = self.disk.open(&path, OpenMode::Read).map_err(io)?.into();
        let file_bytes = file.len().map_err(io)?;
        let mut blocks = Blocks {
            path: path.clone(),
            file: file.clone(),
            file_bytes,
            at: 0,
            number: 0,
        };
        let meta = blocks.header()?;
        Ok(SnapshotFile {
            path,
            file,
            file_bytes,
            meta,
        })
    }

    /// Writes a snapshot: `content` produces the data. It is durable, and the only one, when this returns.
    pub fn write(
        &self,
        meta: &SnapshotMeta,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<SnapshotFile, SnapshotError> {
        let tmp = self.dir.join(format!("{}.tmp", stem(meta)));
        let written = self.write_tmp(&tmp, meta, content);
        if written.is_err() {
            // Best effort: an unfinished file is removed at the next start anyway.
            let _ = self.disk.remove(&tmp);
        }
        written.map_err(|e| SnapshotError::io("write", &tmp, e))?;
        self.publish(&tmp, meta)
    }

    fn write_tmp(
        &self,
        tmp: &Path,
        meta: &SnapshotMeta,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.disk.open(tmp, OpenMode::Truncate)?;
        let mut out = BlockWriter {
            file: &*file,
            at: 0,
            number: 0,
            data: Vec::new(),
            data_bytes: 0,
        };
        out.block(KIND_HEADER, &encode_meta(meta))?;
        content(&mut out)?;
        out.finish()?;
        file.sync_data()
    }

    /// Where a snapshot that comes from elsewhere is written before [`SnapshotDir::publish`].
    pub fn incoming(&self, number: u64) -> PathBuf {
        self.dir.join(format!("incoming-{number:016x}.tmp"))
    }

    /// Makes a snapshot that came from elsewhere this group's own: renames it if it was received here, copies it if it
    /// lies in another place.
    pub fn adopt(&self, snapshot: &SnapshotFile) -> Result<SnapshotFile, SnapshotError> {
        let SnapshotFile {
            path,
            file,
            file_bytes,
            meta,
        } = snapshot;
        let io = |e| SnapshotError::io("copy", path, e);
        if path.parent() == Some(&self.dir) && path.extension().is_some_and(|e| e == "tmp") {
            return self.publish(path, meta);
        }
        let tmp = self.dir.join(format!("{}.tmp", stem(meta)));
        let target = self.disk.open(&tmp, OpenMode::Truncate).map_err(io)?;
        let mut chunk = vec![0; BLOCK_BYTES];
        let mut at = 0;
        while at < *file_bytes {
            let n = chunk
                .len()
                .min(usize::try_from(file_bytes - at).unwrap_or(usize::MAX));
            file.read_exact_at(at, &mut chunk[..n]).map_err(io)?;
            target.write_at(at, &chunk[..n]).map_err(io)?;
            at += n as u64;
        }
        target.sync_data().map_err(io)?;
        self.publish(&tmp, meta)
    }

    /// Gives the durable file `tmp` its name, then removes older snapshots.
    pub fn publish(&self, tmp: &Path, meta: &SnapshotMeta) -> Result<SnapshotFile, SnapshotError> {
        let path = self.dir.join(format!("{}.snap", stem(meta)));
        let io = |e| SnapshotError::io("publish", &path, e);
        self.disk.rename(tmp, &path).map_err(io)?;
        self.disk.sync_dir(&self.dir).map_err(io)?;
        let published = self.file(path.clone())?;
        for name in self.names()? {
            // A newer one may have come from the leader meanwhile.
            let older = path
                .file_name()
                .is_some_and(|own| name.as_str() < own.to_str().unwrap_or_default());
            if name.ends_with(".snap") && older {
                self.remove(&name)?;
            }
        }
        Ok(published)
    }

    /// The disk it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }
}

/// Name of the file without its ending. The term tells two snapshots at one index apart that differ.
fn stem(meta: &SnapshotMeta) -> String {
    let (index, term) = meta
        .last_log_id
        .as_ref()
        .map(log_pos)
        .map_or((0, 0), |pos| (pos.index, pos.term));
    format!("{index:016x}-{term:016x}")
}

pub(crate) fn encode_meta(meta: &SnapshotMeta) -> Vec<u8> {
    let mut w = Writer::default();
    w.u32(FORMAT_VERSION);
    w.opt(meta.last_log_id.as_ref(), Writer::log_id);
    w.stored_membership(&meta.last_membership);
    w.out
}

pub(crate) fn decode_meta(bytes: &Bytes) -> Option<SnapshotMeta> {
    let mut r = Reader::new(bytes);
    if r.u32()? != FORMAT_VERSION {
        return None;
    }
    let last_log_id = r.opt(Reader::log_id)?;
    let last_membership = r.stored_membership()?;
    r.end(SnapshotMeta {
        last_log_id,
        last_membership,
    })
}

impl SnapshotFile {
    /// The data, checked block by block as it is read. A reader that ends early proves nothing: call
    /// [`SnapshotReader::finish`].
    pub fn read(&self) -> Result<SnapshotReader, SnapshotError> {
        let SnapshotFile {
            path,
            file,
            file_bytes,
            meta: _,
        } = self;
        let mut blocks = Blocks {
            path: path.clone(),
            file: file.clone(),
            file_bytes: *file_bytes,
            at: 0,
            number: 0,
        };
        blocks.header()?;
        Ok(SnapshotReader {
            blocks,
            block: Bytes::new(),
            data_bytes: 0,
            ended: false,
            error: None,
        })
    }

    /// Restores from the data: `restore` reads it. All of the file has been checked when this succeeds.
    pub fn restore(
        &self,
        restore: impl FnOnce(&mut dyn Read) -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let mut reader = self.read()?;
        let restored = restore(&mut reader);
        // Damage explains a failure to restore; so it is looked for first, in the rest of the file too.
        reader.finish()?;
        restored.map_err(|source| SnapshotError::Restore {
            path: self.path.clone(),
            source,
        })
    }
}

struct BlockWriter<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    number: u32,
    data: Vec<u8>,
    data_bytes: u64,
}

impl BlockWriter<'_> {
    fn block(&mut self, kind: u32, payload: &[u8]) -> io::Result<()> {
        let mut block = Vec::with_capacity(HEADER_BYTES + payload.len());
        block.extend_from_slice(&MAGIC);
        let len = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        block.extend_from_slice(&len.to_le_bytes());
        block.extend_from_slice(&self.number.to_le_bytes());
        block.extend_from_slice(&kind.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&block), payload);
        block.extend_from_slice(&crc.to_le_bytes());
        block.extend_from_slice(payload);
        self.file.write_at(self.at, &block)?;
        self.at += block.len() as u64;
        self.number += 1;
        Ok(())
    }

    fn flush_data(&mut self) -> io::Result<()> {
        let data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            self.block(KIND_DATA, &data)?;
            self.data_bytes += data.len() as u64;
        }
        self.data = data;
        self.data.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush_data()?;
        self.block(KIND_END, &self.data_bytes.to_le_bytes())
    }
}

impl Write for BlockWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BLOCK_BYTES - self.data.len());
        self.data.extend_from_slice(&bytes[..n]);
        if self.data.len() == BLOCK_BYTES {
            self.flush_data()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads and checks one block after the other.
struct Blocks {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    at: u64,
    number: u32,
}

impl Blocks {
    fn damaged(&self, reason: &'static str) -> SnapshotError {
        SnapshotError::Damaged {
            path: self.path.clone(),
            offset: self.at,
            reason,
        }
    }

    fn next(&mut self) -> Result<(u32, Bytes), SnapshotError> {
        let mut header = [0; HEADER_BYTES];
        self.fill(self.at, &mut header)?;
        let field = |i: usize| u32::from_le_bytes(header[i..i + 4].try_into().expect("four bytes"));
        let (len, number, kind, crc) = (field(4) as usize, field(8), field(12), field(16));
        if header[..4] != MAGIC || number != self.number || len > PAYLOAD_BYTES_MAX {
            return Err(self.damaged("a block's header is wrong"));
        }
        let mut payload = vec![0; len];
        self.fill(self.at + HEADER_BYTES as u64, &mut payload)?;
        if crc32c::crc32c_append(crc32c::crc32c(&header[..16]), &payload) != crc {
            return Err(self.damaged("a block's checksum is wrong"));
        }
        self.at += (HEADER_BYTES + len) as u64;
        self.number += 1;
        Ok((kind, payload.into()))
    }

    fn fill(&self, at: u64, buf: &mut [u8]) -> Result<(), SnapshotError> {
        if self.file_bytes.saturating_sub(at) < buf.len() as u64 {
            return Err(self.damaged("the file ends inside a block"));
        }
        self.file
            .read_exact_at(at, buf)
            .map_err(|e| SnapshotError::io("read", &self.path, e))
    }

    fn header(&mut self) -> Result<SnapshotMeta, SnapshotError> {
        let (kind, payload) = self.next()?;
        let meta = if kind == KIND_HEADER {
            decode_meta(&payload)
        } else {
            None
        };
        meta.ok_or_else(|| SnapshotError::Damaged {
            path: self.path.clone(),
            offset: 0,
            reason: "the header block does not tell what the snapshot covers",
        })
    }
}

/// The data of a snapshot.
pub(crate) struct SnapshotReader {
    blocks: Blocks,
    block: Bytes,
    data_bytes: u64,
    ended: bool,
    /// The first error; `read` can only pass on its text.
    error: Option<SnapshotError>,
}

impl SnapshotReader {
    fn advance(&mut self) -> Result<(), SnapshotError> {
        let (kind, payload) = self.blocks.next()?;
        match kind {
            KIND_DATA => {
                self.data_bytes += payload.len() as u64;
                self.block = payload;
                Ok(())
            }
            KIND_END => self.end(&payload),
            _ => Err(self.blocks.damaged("a block of unknown kind")),
        }
    }

    fn end(&mut self, payload: &[u8]) -> Result<(), SnapshotError> {
        if payload != self.data_bytes.to_le_bytes() {
            return Err(self.blocks.damaged("blocks are missing"));
        }
        if self.blocks.at != self.blocks.file_bytes {
            return Err(self.blocks.damaged("the file goes on after its end"));
        }
        self.ended = true;
        Ok(())
    }

    /// Reads and checks what is left.
    pub fn finish(mut self) -> Result<(), SnapshotError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while !self.ended {
            self.advance()?;
        }
        Ok(())
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() && !self.ended {
            if let Err(error) = self.advance() {
                let told = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
                self.error = Some(error);
                return Err(told);
            }
        }
        let n = buf.len().min(self.block.len());
        buf[..n].copy_from_slice(&self.block.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use host::sim::SimDisk;

    use super::*;
    use crate::types::{Member, Membership, StoredMembership, log_id};
    use crate::wal::LogPos;

    fn meta(index: u64) -> SnapshotMeta {
        let id = log_id(LogPos { term: 2, index });
        let member = Member {
            addr: "here".to_owned(),
        };
        let membership = Membership::new(
            vec![[1].into()],
            std::collections::BTreeMap::from([(1, member)]),
        )
        .unwrap();
        SnapshotMeta {
            last_log_id: Some(id),
            last_membership: StoredMembership::new(Some(id), membership),
        }
    }

    fn read_all(file: &SnapshotFile) -> Result<Vec<u8>, SnapshotError> {
        let mut data = Vec::new();
        file.restore(|r| r.read_to_end(&mut data).map(drop))?;
        Ok(data)
    }

    #[test]
    fn any_flipped_byte_is_refused_with_its_block() {
        let disk = SimDisk::new(1);
        let dir = SnapshotDir::open(Arc::new(disk.clone()), Path::new("/s")).unwrap();
        let data: Vec<u8> = (0..600_000u32).map(|i| (i * 7) as u8).collect();
        dir.write(&meta(5), &mut |w| w.write_all(&data)).unwrap();
        let file = dir.write(&meta(9), &mut |w| w.write_all(&data)).unwrap();
        assert_eq!(
            disk.list(Path::new("/s")).unwrap().len(),
            1,
            "the older one is removed"
        );
        assert_eq!(read_all(&file).unwrap(), data);
        assert_eq!(dir.newest().unwrap().unwrap().meta, meta(9));
        let ends = [
            0,
            1,
            7,
            25,
            60,
            110,
            file.file_bytes - 1,
            file.file_bytes - 9,
            file.file_bytes - 30,
        ];
        for at in ends.into_iter().chain((0..file.file_bytes).step_by(9_973)) {
            disk.flip(&file.path, at, 0x40).unwrap();
            let error = dir
                .newest()
                .and_then(|f| read_all(&f.unwrap()))
                .unwrap_err();
            let SnapshotError::Damaged { offset, .. } = error else {
                panic!("{error}")
            };
            assert!(offset <= at, "{offset} {at}");
            disk.flip(&file.path, at, 0x40).unwrap();
        }
        assert_eq!(read_all(&file).unwrap(), data);
    }

    #[test]
    fn a_full_disk_leaves_the_old_snapshot() {
        let disk = SimDisk::new(1);
        let dir = SnapshotDir::open(Arc::new(disk.clone()), Path::new("/s")).unwrap();
        dir.write(&meta(5), &mut |w| w.write_all(&[1; 1000]))
            .unwrap();
        disk.set_capacity(Some(10_000));
        let error = dir
            .write(&meta(9), &mut |w| w.write_all(&[1; 1_000_000]))
            .err()
            .unwrap();
        assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
        let dir = SnapshotDir::open(Arc::new(disk.clone()), Path::new("/s")).unwrap();
        let newest = dir.newest().unwrap().unwrap();
        assert_eq!(
            (newest.meta.clone(), read_all(&newest).unwrap()),
            (meta(5), vec![1; 1000])
        );
        assert_eq!(disk.list(Path::new("/s")).unwrap().len(), 1);
    }
}
