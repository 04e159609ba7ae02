//! Small files: each is replaced as a whole, durably, and a changed byte is noticed.

use crate::error::OpenError;
use host::{Host, OpenMode};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The first line of each file is the checksum of the rest, so that a changed digit is noticed.
pub(crate) fn read_toml<T: for<'a> Deserialize<'a>>(
    host: &Host,
    path: &Path,
) -> Result<T, OpenError> {
    let bytes = host.disk.read(path).map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    let damaged = |reason: &str| OpenError::Damaged {
        path: path.to_owned(),
        offset: 0,
        reason: reason.to_owned(),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("it is not text"))?;
    let (head, body) = text
        .split_once('\n')
        .ok_or_else(|| damaged("it has no first line"))?;
    if head != checksum_line(body) {
        return Err(damaged("its checksum does not match"));
    }
    toml::from_str(body).map_err(|error| damaged(error.message()))
}

/// Writes the value to the file `name` of `dir`.
pub(crate) fn write_toml<T: Serialize>(
    host: &Host,
    dir: &Path,
    name: &str,
    value: &T,
) -> Result<(), OpenError> {
    let body = toml::to_string(value).map_err(|error| OpenError::Io {
        path: dir.join(name),
        source: io::Error::other(error),
    })?;
    let text = format!("{}\n{body}", checksum_line(&body));
    write_text(host, dir, name, &text)
}

/// Replaces the file `name` of `dir`: after a crash it is the old one or the new one.
fn write_text(host: &Host, dir: &Path, name: &str, text: &str) -> Result<(), OpenError> {
    let path = dir.join(name);
    let write = || -> io::Result<()> {
        let temporary = dir.join(format!("{name}.tmp"));
        let file = host.disk.open(&temporary, OpenMode::Truncate)?;
        file.write_at(0, text.as_bytes())?;
        file.sync_data()?;
        host.disk.rename(&temporary, &path)?;
        host.disk.sync_dir(dir)
    };
    write().map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })
}

/// Writes PEM text, below a line with its checksum: readers of PEM skip what comes before the first block.
pub(crate) fn write_pem(host: &Host, dir: &Path, name: &str, pem: &str) -> Result<(), OpenError> {
    write_text(host, dir, name, &format!("{}\n{pem}", checksum_line(pem)))
}

/// The PEM text of a file, `None` if there is no such file.
pub(crate) fn read_pem(host: &Host, path: &Path) -> Result<Option<String>, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let damaged = |reason: &str| OpenError::Damaged {
        path: path.to_owned(),
        offset: 0,
        reason: reason.to_owned(),
    };
    if !host.disk.exists(path).map_err(io)? {
        return Ok(None);
    }
    let bytes = host.disk.read(path).map_err(io)?;
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (head, pem) = text
        .split_once('\n')
        .ok_or_else(|| damaged("it has no first line"))?;
    match head == checksum_line(pem) {
        true => Ok(Some(pem.to_owned())),
        false => Err(damaged("its checksum does not match")),
    }
}

fn checksum_line(body: &str) -> String {
    format!("# crc32c {:08x}", crc32c::crc32c(body.as_bytes()))
}
