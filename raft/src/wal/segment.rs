//! Segment files: names, creation, the reserve of empty ones.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Disk, DiskFile, OpenMode};

use super::WalError;
use super::format;

/// Name of segment `number` in `dir`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

/// The segment number in a file name; `None` for other files.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// A segment file, open for reading and writing.
#[derive(Clone)]
pub(super) struct Segment {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
    pub file_bytes: u64,
}

impl Segment {
    /// Creates segment `number` with all its space and makes its name durable. It reads as zeros.
    pub fn create(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        file_bytes: u64,
    ) -> Result<Segment, WalError> {
        let path = path(dir, number);
        let made = Segment::try_create(disk, dir, &path, file_bytes);
        match made {
            Ok(file) => Ok(Segment {
                number,
                file,
                file_bytes,
            }),
            Err(source) => {
                // A file without its space would break the promise that a write into it succeeds.
                let _ = disk.remove(&path);
                Err(WalError::io("create", path, source))
            }
        }
    }

    fn try_create(
        disk: &dyn Disk,
        dir: &Path,
        path: &Path,
        file_bytes: u64,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file: Arc<dyn DiskFile> = disk.open(path, OpenMode::Truncate)?.into();
        file.preallocate(file_bytes)?;
        file.sync_data()?;
        disk.sync_dir(dir)?;
        Ok(file)
    }

    /// Bytes of stream it holds.
    pub fn capacity(&self) -> usize {
        format::stream_capacity(self.file_bytes)
    }

    /// Reads stream bytes `at..at + len`.
    pub fn read_stream(&self, at: usize, len: usize) -> io::Result<Vec<u8>> {
        let base = format::file_offset(at) / format::SECTOR_BYTES * format::SECTOR_BYTES;
        let end = format::file_offset(at + len - 1) + 1;
        let mut framed = vec![0; end - base];
        self.file.read_exact_at(base as u64, &mut framed)?;
        let mut out = vec![0; len];
        if !format::unframe(&framed, base, at, &mut out) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(out)
    }
}

/// Empty segments made ahead, so that switching to the next one never waits for the disk, and so that a full disk
/// still leaves room to drop things.
#[derive(Default)]
pub(super) struct Spares {
    pub ready: VecDeque<Segment>,
    /// Numbers of segments to remove, oldest first.
    pub dead: VecDeque<u64>,
    /// Number of the next segment to create.
    pub next: u64,
    /// True while a new segment cannot be made for lack of space.
    pub full: bool,
    pub stop: bool,
}
