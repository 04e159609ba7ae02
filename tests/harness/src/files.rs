//! What tests do to data directories: copy them, find what was written, damage one byte.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Copies a directory with everything below it. Sockets and other special files are left out.
pub fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A file of a data directory and the part of it that has been written: everything up to its last byte that is not zero.
#[derive(Clone, Debug)]
pub struct Written {
    /// Path relative to the data directory.
    pub path: PathBuf,
    /// Bytes up to and with the last one that is not zero; preallocated zeros behind it do not count.
    pub bytes: u64,
}

/// Every file below `dir` that holds something, in order of path.
pub fn written_files(dir: &Path) -> io::Result<Vec<Written>> {
    let mut files = Vec::new();
    collect(dir, dir, &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<Written>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(root, &entry.path(), files)?;
        } else if kind.is_file() {
            let content = std::fs::read(entry.path())?;
            let bytes = content
                .iter()
                .rposition(|b| *b != 0)
                .map_or(0, |last| last as u64 + 1);
            if bytes > 0 {
                let path = entry
                    .path()
                    .strip_prefix(root)
                    .map_err(io::Error::other)?
                    .to_owned();
                files.push(Written { path, bytes });
            }
        }
    }
    Ok(())
}

/// Changes one bit of one byte, in place.
pub fn flip(path: &Path, offset: u64, bit: u8) -> io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], offset)
}
