//! Files: positional reads and writes, preallocation, and the three syncs a crash-safe format needs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// How [`Disk::open`] treats a file that is, or is not, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; it is only read.
    Read,
    /// The file must exist; it is read and written.
    Write,
    /// The file must not exist; it is created empty.
    CreateNew,
    /// The file is created empty; one that exists is emptied.
    Truncate,
}

/// The only way to files. A name created, renamed or removed survives a crash only after [`Disk::sync_dir`] on its
/// directory; bytes only after [`DiskFile::sync_data`].
pub trait Disk: Send + Sync + 'static {
    /// Opens a file. Errors: as the file system says; `AlreadyExists` and `NotFound` as [`OpenMode`] demands.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Atomically gives the file the name `to`, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in `dir`, sorted; subdirectories are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Names of the directories in `dir`, sorted.
    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates `dir` and its missing parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that an unprivileged writer can still allocate on the file system of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Whether a file of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Takes the exclusive lock on `path`, creating the file when missing. Held until the guard is dropped or the
    /// process ends. Errors: `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<DiskLock>;

    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = usize::try_from(file.len()?)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// An open file. Shared by threads: every call names its position.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file when needed. Errors: `StorageFull` and others; then any
    /// part of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// An offset after which the file holds only zeros, found without reading it where the file system can tell; its
    /// length where not.
    fn data_end(&self) -> io::Result<u64> {
        self.len()
    }

    /// True for a file of no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or grows it with zeros that take no space yet.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes space for `len` bytes; the file reads as zeros where nothing was written and is at least `len` long.
    /// Errors: `StorageFull`.
    fn preallocate(&self, len: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable (`fdatasync`). After an error the durable content is unknown.
    fn sync_data(&self) -> io::Result<()>;

    /// Fills `buf` from `offset`. Errors: `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let n = self.read_at(offset + done as u64, &mut buf[done..])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += n;
        }
        Ok(())
    }
}

/// An exclusive lock on a path, released on drop.
pub struct DiskLock {
    _guard: Box<dyn std::any::Any + Send + Sync>,
}

impl DiskLock {
    /// A lock that lasts as long as `guard`.
    pub fn new(guard: Box<dyn std::any::Any + Send + Sync>) -> DiskLock {
        DiskLock { _guard: guard }
    }
}

impl std::fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLock")
    }
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// Names of the directories, or of everything else, in `dir`.
fn names(dir: &Path, dirs: bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() != dirs {
            continue;
        }
        // A name that is not UTF-8 is none of ours.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        // Logs and keys are nobody else's business.
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::Truncate => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Box::new(RealFile {
            file: options.open(path)?,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        names(dir, false)
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        names(dir, true)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(DiskLock::new(Box::new(file))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn data_end(&self) -> io::Result<u64> {
        use rustix::fs::{SeekFrom, seek};
        use rustix::io::Errno;

        let mut end = 0;
        loop {
            let hole = seek(&self.file, SeekFrom::Data(end))
                .and_then(|data| seek(&self.file, SeekFrom::Hole(data)));
            match hole {
                Ok(hole) if hole > end => end = hole,
                // No data at or after `end`.
                Err(Errno::NXIO) => return Ok(end),
                Ok(_) | Err(_) => return self.len(),
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // File systems without fallocate (some overlays and network mounts) get the length only.
            Err(rustix::io::Errno::OPNOTSUPP) if self.len()? < len => self.file.set_len(len),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_disk_round_trip_and_lock() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk;
        let path = dir.path().join("a");
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        file.preallocate(8192).unwrap();
        file.write_at(5000, b"hello").unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 8192);
        let data_end = file.data_end().unwrap();
        assert!((5005..=8192).contains(&data_end), "{data_end}");
        let bytes = disk.read(&path).unwrap();
        assert_eq!(&bytes[5000..5005], b"hello");
        assert!(bytes[..5000].iter().all(|b| *b == 0));
        assert_eq!(
            disk.open(&path, OpenMode::CreateNew).err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
        disk.rename(&path, &dir.path().join("b")).unwrap();
        disk.sync_dir(dir.path()).unwrap();
        assert_eq!(disk.list(dir.path()).unwrap(), vec!["b"]);
        assert!(disk.free_bytes(dir.path()).unwrap() > 0);

        let lock = disk.lock(&dir.path().join("LOCK")).unwrap();
        assert_eq!(
            disk.lock(&dir.path().join("LOCK")).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(lock);
        disk.lock(&dir.path().join("LOCK")).unwrap();
    }
}
