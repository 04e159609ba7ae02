//! A disk in memory that behaves as badly as a real one may.
//!
//! Bytes written are visible at once, and survive [`SimDisk::crash`] for certain only after
//! [`DiskFile::sync_data`]; names only after [`Disk::sync_dir`]. What happens to the rest at a crash is drawn from the
//! seed, in one of the ways of [`CrashStyle`]. Handles opened before a crash fail from then on, as those of a killed
//! process would.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sim::SimRng;
use crate::{Disk, DiskFile, DiskLock, OpenMode, Rng};

/// The unit a device writes whole.
const SECTOR_BYTES: usize = 512;

/// What a crash does to writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashStyle {
    /// The process dies, the machine lives: nothing is lost, but the last write may have been cut at any byte.
    Kill,
    /// Power loss on a disk that writes in order: a prefix of the unsynced writes survives, the last cut at any byte.
    PowerInOrder,
    /// Power loss on a disk that reorders: each sector of each unsynced write survives or not on its own.
    PowerReordered,
}

/// Failures to come. All counters count down from now; `None` means never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Writes that succeed before one fails half-way with an I/O error.
    pub writes_until_error: Option<u64>,
    /// Data syncs that succeed before one fails; the bytes it was to make durable are dropped, as Linux may do.
    pub syncs_until_error: Option<u64>,
    /// Calls (writes, syncs, names) that succeed before the process is as if dead: every later call fails.
    pub calls_until_death: Option<u64>,
}

/// See the module. Cloning shares the disk.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: SimRng,
    /// Counts crashes; a handle of an earlier life is dead.
    life: u64,
    names: BTreeMap<PathBuf, Arc<Mutex<Node>>>,
    durable_names: BTreeMap<PathBuf, Arc<Mutex<Node>>>,
    /// Changes of names since the last sync of their directory, oldest first.
    name_changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    faults: Faults,
    capacity_bytes: Option<u64>,
    dead: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, Arc<Mutex<Node>>),
    Unset(PathBuf),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Set(path, _) | NameChange::Unset(path) => path.parent(),
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Arc<Mutex<Node>>>) {
        match self {
            NameChange::Set(path, node) => {
                names.insert(path, node);
            }
            NameChange::Unset(path) => {
                names.remove(&path);
            }
        }
    }
}

#[derive(Default)]
struct Node {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// Bytes taken on the disk: the longest of length and preallocation.
    allocated: u64,
}

#[derive(Clone)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Pending {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Pending::Write { offset, bytes } => write(content, *offset, bytes),
            Pending::SetLen(len) => content.resize(*len, 0),
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn died() -> io::Error {
    io::Error::other("simulated crash")
}

impl SimDisk {
    /// An empty disk without limits or faults; `seed` decides what crashes do.
    pub fn new(seed: u64) -> SimDisk {
        let inner = Inner {
            rng: SimRng::new(seed),
            life: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            dirs: BTreeSet::new(),
            locks: BTreeSet::new(),
            faults: Faults::default(),
            capacity_bytes: None,
            dead: false,
        };
        SimDisk {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Sets the failures to come.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.inner).faults = faults;
    }

    /// Limits the disk to `bytes`; allocation beyond that fails with `StorageFull`. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.inner).capacity_bytes = bytes;
    }

    /// Bytes allocated by all files.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.inner).used_bytes()
    }

    /// True once [`Faults::calls_until_death`] has struck.
    pub fn is_dead(&self) -> bool {
        lock(&self.inner).dead
    }

    /// Kills all open handles and locks, forgets what was not synced, clears the faults, and lets the disk be used
    /// again by the next life.
    pub fn crash(&self, style: CrashStyle) {
        let mut inner = lock(&self.inner);
        inner.life += 1;
        inner.dead = false;
        inner.faults = Faults::default();
        inner.locks.clear();
        inner.crash_names(style);
        let nodes: Vec<_> = inner.names.values().cloned().collect();
        for node in nodes {
            lock(&node).crash(style, &inner.rng);
        }
        inner.durable_names = inner.names.clone();
    }

    /// XORs the byte at `offset` with `mask`, durably: bit rot. Errors: no such file or byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let inner = lock(&self.inner);
        let node = inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let mut node = lock(node);
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        for content in [0, 1] {
            let bytes = if content == 0 {
                &mut node.current
            } else {
                &mut node.durable
            };
            match bytes.get_mut(offset) {
                Some(byte) => *byte ^= mask,
                None if content == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        }
        Ok(())
    }

    /// A disk with the same visible content, all of it durable, and no faults: for many experiments on one history.
    pub fn fork(&self, seed: u64) -> SimDisk {
        let copy = SimDisk::new(seed);
        {
            let inner = lock(&self.inner);
            let mut target = lock(&copy.inner);
            target.dirs = inner.dirs.clone();
            target.capacity_bytes = inner.capacity_bytes;
            for (path, node) in &inner.names {
                let node = lock(node);
                let node = Node {
                    current: node.current.clone(),
                    durable: node.current.clone(),
                    pending: Vec::new(),
                    allocated: node.allocated,
                };
                target
                    .names
                    .insert(path.clone(), Arc::new(Mutex::new(node)));
            }
            target.durable_names = target.names.clone();
        }
        copy
    }
}

impl Inner {
    fn used_bytes(&self) -> u64 {
        self.names.values().map(|n| lock(n).allocated).sum()
    }

    /// Counts one call towards death; fails from then on.
    fn call(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(died());
        }
        if count_down(&mut self.faults.calls_until_death) {
            self.dead = true;
            return Err(died());
        }
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        self.name_changes.push(change.clone());
        change.apply(&mut self.names);
    }

    fn crash_names(&mut self, style: CrashStyle) {
        let changes = std::mem::take(&mut self.name_changes);
        if style == CrashStyle::Kill {
            return;
        }
        // File systems journal names in order, so a prefix of the changes survives.
        let kept = self.rng.below(changes.len() as u64 + 1) as usize;
        let mut names = self.durable_names.clone();
        for change in changes.into_iter().take(kept) {
            change.apply(&mut names);
        }
        self.names = names;
    }

    fn check_room(&self, more: u64) -> io::Result<()> {
        match self.capacity_bytes {
            Some(capacity) if self.used_bytes().saturating_add(more) > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// True when the counter was at zero; then it is spent.
fn count_down(counter: &mut Option<u64>) -> bool {
    match counter {
        None => false,
        Some(0) => {
            *counter = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
    }
}

impl Node {
    fn crash(&mut self, style: CrashStyle, rng: &SimRng) {
        let pending = std::mem::take(&mut self.pending);
        let mut content = self.durable.clone();
        match style {
            CrashStyle::Kill => {
                // A write call that had returned is in the page cache and stays.
                pending.iter().for_each(|p| p.apply(&mut content));
            }
            CrashStyle::PowerInOrder => {
                let kept = rng.below(pending.len() as u64 + 1) as usize;
                pending
                    .iter()
                    .take(kept)
                    .for_each(|p| p.apply(&mut content));
                if let Some(Pending::Write { offset, bytes }) = pending.get(kept) {
                    let cut = rng.below(bytes.len() as u64 + 1) as usize;
                    write(&mut content, *offset, &bytes[..cut]);
                }
            }
            CrashStyle::PowerReordered => {
                for p in &pending {
                    match p {
                        Pending::Write { offset, bytes } => {
                            write_some_sectors(&mut content, *offset, bytes, rng)
                        }
                        Pending::SetLen(_) => p.apply(&mut content),
                    }
                }
            }
        }
        self.durable = content.clone();
        self.current = content;
    }
}

/// Writes each file-aligned sector of `bytes` with a chance of one half.
fn write_some_sectors(content: &mut Vec<u8>, offset: usize, bytes: &[u8], rng: &SimRng) {
    let mut at = 0;
    while at < bytes.len() {
        let room = SECTOR_BYTES - (offset + at) % SECTOR_BYTES;
        let end = bytes.len().min(at + room);
        if rng.next_u64() & 1 == 0 {
            write(content, offset + at, &bytes[at..end]);
        }
        at = end;
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = lock(&self.inner);
        if inner.dead {
            return Err(died());
        }
        let existing = inner.names.get(path).cloned();
        let node = match (mode, existing) {
            (OpenMode::Read | OpenMode::Write, None) => return Err(io::ErrorKind::NotFound.into()),
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Read | OpenMode::Write, Some(node)) => node,
            (OpenMode::Truncate, Some(node)) => {
                inner.call()?;
                let mut content = lock(&node);
                content.current.clear();
                content.allocated = 0;
                content.pending.push(Pending::SetLen(0));
                drop(content);
                node
            }
            (OpenMode::CreateNew | OpenMode::Truncate, None) => {
                inner.call()?;
                if path.parent().is_some_and(|dir| !inner.dirs.contains(dir)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let node = Arc::new(Mutex::new(Node::default()));
                inner.change_name(NameChange::Set(path.to_owned(), node.clone()));
                node
            }
        };
        let life = inner.life;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            node,
            life,
            writable: mode != OpenMode::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.call()?;
        let node = inner
            .names
            .get(from)
            .cloned()
            .ok_or(io::ErrorKind::NotFound)?;
        // One journalled change: a crash sees both halves or neither, as long as the directory is the same.
        inner.names.remove(from);
        inner.names.insert(to.to_owned(), node.clone());
        inner
            .name_changes
            .push(NameChange::Set(to.to_owned(), node));
        inner.name_changes.push(NameChange::Unset(from.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.call()?;
        if !inner.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.change_name(NameChange::Unset(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.call()?;
        let is_inside = |path: &PathBuf| path.parent() == Some(dir);
        if inner.names.keys().any(is_inside) || inner.dirs.iter().any(is_inside) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if !inner.dirs.remove(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = lock(&self.inner);
        if !inner.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_dir = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(in_dir
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = lock(&self.inner);
        if !inner.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_dir = inner.dirs.iter().filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> = in_dir
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.call()?;
        let changes = std::mem::take(&mut inner.name_changes);
        let (synced, rest): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|c| c.dir() == Some(dir));
        inner.name_changes = rest;
        for change in synced {
            change.apply(&mut inner.durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let inner = lock(&self.inner);
        Ok(inner.capacity_bytes.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(inner.used_bytes())
        }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(lock(&self.inner).names.contains_key(path))
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let mut inner = lock(&self.inner);
        if !inner.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let guard = SimLock {
            disk: self.clone(),
            path: path.to_owned(),
            life: inner.life,
        };
        Ok(DiskLock::new(Box::new(guard)))
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = lock(&self.disk.inner);
        if inner.life == self.life {
            inner.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    node: Arc<Mutex<Node>>,
    life: u64,
    writable: bool,
}

impl SimFile {
    /// The disk's state, if this handle's process still lives.
    fn live(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = lock(&self.disk.inner);
        if inner.life != self.life || inner.dead {
            return Err(died());
        }
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(inner)
    }

    /// Like `live`, and counts one call.
    fn call(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.live()?;
        inner.call()?;
        Ok(inner)
    }

    fn grow(&self, inner: &Inner, to: u64) -> io::Result<()> {
        let allocated = lock(&self.node).allocated;
        if to > allocated {
            inner.check_room(to - allocated)?;
            lock(&self.node).allocated = to;
        }
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let inner = lock(&self.disk.inner);
        if inner.life != self.life || inner.dead {
            return Err(died());
        }
        let node = lock(&self.node);
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(node.current.len());
        let n = buf.len().min(node.current.len() - start);
        buf[..n].copy_from_slice(&node.current[start..start + n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut inner = self.live()?;
        let (mut cut, mut result) = (bytes.len(), Ok(()));
        if count_down(&mut inner.faults.calls_until_death) {
            // The process dies inside this very write.
            inner.dead = true;
            cut = inner.rng.below(bytes.len() as u64 + 1) as usize;
            result = Err(died());
        } else if count_down(&mut inner.faults.writes_until_error) {
            cut = inner.rng.below(bytes.len() as u64 + 1) as usize;
            result = Err(io::Error::other("simulated write error"));
        }
        self.grow(&inner, (offset + cut) as u64)?;
        let mut node = lock(&self.node);
        write(&mut node.current, offset, &bytes[..cut]);
        node.pending.push(Pending::Write {
            offset,
            bytes: bytes[..cut].to_vec(),
        });
        result
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.node).current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _inner = self.call()?;
        let mut node = lock(&self.node);
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        node.current.resize(len, 0);
        node.allocated = node.allocated.min(len as u64);
        node.pending.push(Pending::SetLen(len));
        Ok(())
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let inner = self.call()?;
        self.grow(&inner, len)?;
        let mut node = lock(&self.node);
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        if node.current.len() < len {
            node.current.resize(len, 0);
            node.pending.push(Pending::SetLen(len));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.call()?;
        let fails = count_down(&mut inner.faults.syncs_until_error);
        let mut node = lock(&self.node);
        let pending = std::mem::take(&mut node.pending);
        if fails {
            return Err(io::Error::other("simulated fsync error"));
        }
        let Node { durable, .. } = &mut *node;
        pending.iter().for_each(|p| p.apply(durable));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_file(seed: u64) -> (SimDisk, Box<dyn DiskFile>) {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.open(Path::new("/d/f"), OpenMode::CreateNew).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        (disk, file)
    }

    #[test]
    fn synced_bytes_survive_and_unsynced_may_not() {
        let mut lost = 0;
        for seed in 0..50 {
            let (disk, file) = disk_with_file(seed);
            file.write_at(0, b"synced").unwrap();
            file.sync_data().unwrap();
            file.write_at(6, b"unsynced").unwrap();
            disk.crash(CrashStyle::PowerInOrder);
            assert!(
                file.write_at(0, b"x").is_err(),
                "handles of the dead life are dead"
            );
            let bytes = disk.read(Path::new("/d/f")).unwrap();
            assert!(
                b"syncedunsynced".starts_with(&bytes[..]) && bytes.len() >= 6,
                "{bytes:?}"
            );
            lost += usize::from(bytes.len() < 14);
        }
        assert!(lost > 10, "power loss has to bite: {lost}");
    }

    #[test]
    fn names_need_the_directory_sync() {
        let mut seen = BTreeSet::new();
        for seed in 0..20 {
            let (disk, _file) = disk_with_file(seed);
            disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
            disk.crash(CrashStyle::PowerInOrder);
            let names = disk.list(Path::new("/d")).unwrap();
            assert!(!names.is_empty(), "a rename never loses the file");
            seen.insert(names);
        }
        assert!(seen.len() > 1);
    }

    #[test]
    fn full_disk_and_failed_sync() {
        let (disk, file) = disk_with_file(1);
        disk.set_capacity(Some(1000));
        file.preallocate(900).unwrap();
        file.write_at(0, &[1; 900]).unwrap();
        assert_eq!(
            file.write_at(900, &[1; 200]).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        disk.set_faults(Faults {
            syncs_until_error: Some(0),
            ..Faults::default()
        });
        assert!(file.sync_data().is_err());
        // The trap of fsync: the second call succeeds although the bytes are gone.
        file.sync_data().unwrap();
        disk.crash(CrashStyle::PowerInOrder);
        assert!(
            disk.read(Path::new("/d/f"))
                .unwrap()
                .iter()
                .all(|b| *b == 0)
        );
    }
}
