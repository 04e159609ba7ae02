//! The data directory of one node.

use crate::error::OpenError;
use crate::files::{read_toml, write_toml};
use crate::member::Member;
use host::{DiskLock, Host};
use mesh::Generation;
use repr::NodeId;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const LOCK: &str = "clusterd.lock";
const IDENTITY: &str = "identity.toml";
const STARTS: &str = "starts.toml";
const WAL: &str = "wal";
const SNAPSHOTS: &str = "snapshots";
const FORMAT: u32 = 1;

/// Who a node is. Made once; a node id is never used again for another disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub format: u32,
    /// 128 random bits as hexadecimal digits.
    pub environment: String,
    pub node: u64,
    /// Counts disaster recoveries of the environment.
    pub generation: u64,
    /// The environment has been formed: from then on writes may have been acknowledged, and a directory without a log has lost them.
    /// Missing in files of programs that did not know it.
    #[serde(default)]
    pub formed: bool,
    /// The node has its key and certificate in `mesh/`. Missing in files of programs that knew no other nodes.
    #[serde(default)]
    pub certified: bool,
    /// This node went on alone after the others were lost, and has not told ENV yet that they are gone for ever.
    #[serde(default)]
    pub recovered: bool,
    /// Random, of the last disaster recovery: two nodes that both went on alone made two environments. 0 before the first, and in files of programs that did not know it.
    #[serde(default)]
    pub recovery: u64,
}

impl Identity {
    pub fn generation(&self) -> Generation {
        Generation {
            number: self.generation,
            nonce: self.recovery,
        }
    }

    pub fn environment_id(&self) -> u128 {
        u128::from_str_radix(&self.environment, 16).unwrap_or_default()
    }

    pub fn node_id(&self) -> NodeId {
        NodeId(self.node)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Starts {
    count: u64,
}

/// A data directory that this process has locked. It may not say yet whose it is.
#[derive(Debug)]
pub struct ClaimedDir {
    path: PathBuf,
    identity: Option<Identity>,
    /// The identity was written by this process.
    created: bool,
    lock: DiskLock,
}

impl ClaimedDir {
    /// Locks the directory, which is made if it is missing.
    ///
    /// # Errors
    /// If it cannot be used, is in use, holds something else, or is damaged. Nothing is changed then.
    pub fn claim(host: &Host, path: &Path) -> Result<ClaimedDir, OpenError> {
        let io = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        host.disk.create_dir_all(path).map_err(io)?;
        let mut files = host.disk.list(path).map_err(io)?;
        files.retain(|name| name != LOCK);
        let known = files.iter().any(|name| name == IDENTITY);
        let temporary = |name: &String| name.ends_with(".tmp");
        if !known && (files.iter().any(|f| !temporary(f)) || has_directories(path)) {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                file: IDENTITY,
            });
        }
        let lock = host
            .disk
            .lock(&path.join(LOCK))
            .map_err(|source| match source.kind() {
                io::ErrorKind::WouldBlock => OpenError::Locked {
                    path: path.to_owned(),
                },
                _ => io(source),
            })?;
        // Another process may have made it before the lock was ours.
        let known = known || host.disk.exists(&path.join(IDENTITY)).map_err(io)?;
        let identity = match known {
            true => Some(read_identity(host, path)?),
            false => None,
        };
        let formed = identity.as_ref().is_some_and(|identity| identity.formed);
        if formed && !has_log(host, path).map_err(io)? {
            return Err(OpenError::LogMissing {
                path: path.to_owned(),
                log: WAL,
            });
        }
        Ok(ClaimedDir {
            path: path.to_owned(),
            identity,
            created: false,
            lock,
        })
    }

    /// Whose directory it is, once that is known.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says, durably, whose directory it is: node `node` of an environment.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn settle(&mut self, host: &Host, identity: Identity) -> Result<(), OpenError> {
        write_toml(host, &self.path, IDENTITY, &identity)?;
        self.created |= self.identity.is_none();
        self.identity = Some(identity);
        Ok(())
    }

    /// Counts this start. `None` if the directory does not say whose it is.
    pub(crate) fn open(self, host: &Host) -> Result<Option<DataDir>, OpenError> {
        let Some(identity) = self.identity else {
            return Ok(None);
        };
        let starts = count_start(host, &self.path, &identity, !self.created)?;
        Ok(Some(DataDir {
            path: self.path,
            identity,
            starts,
            created: self.created,
            _lock: self.lock,
        }))
    }
}

impl Identity {
    /// Node `node` of an environment that has not been in use yet, with its key and certificate in place.
    pub(crate) fn certified(environment: u128, node: NodeId, generation: Generation) -> Identity {
        Identity {
            format: FORMAT,
            environment: format!("{environment:032x}"),
            node: node.0,
            generation: generation.number,
            recovery: generation.nonce,
            formed: false,
            certified: true,
            recovered: false,
        }
    }
}

/// An open data directory. The lock is held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    starts: u64,
    created: bool,
    _lock: DiskLock,
}

impl DataDir {
    /// Opens the directory, or makes one with an environment of its own if it is empty or missing: [`Member::open`] without the keys.
    ///
    /// # Errors
    /// If it cannot be used, is in use, holds something else, or is damaged. Nothing is changed then.
    pub fn open(host: &Host, path: &Path) -> Result<DataDir, OpenError> {
        Ok(Member::open(host, path, "")?.data_dir)
    }

    /// Notes, durably, that the environment has been formed. Must precede the first acknowledged write: a directory that has lost its log afterwards
    /// is refused instead of being formed anew.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn mark_formed(&mut self, host: &Host) -> Result<(), OpenError> {
        if self.identity.formed {
            return Ok(());
        }
        let formed = Identity {
            formed: true,
            ..self.identity.clone()
        };
        self.replace_identity(host, formed)
    }

    /// Notes, durably, that this node goes on without the others: in a new generation, whose nodes refuse those of older ones, and those of every other recovery.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn mark_recovered(&mut self, host: &Host) -> Result<(), OpenError> {
        let recovered = Identity {
            generation: self.identity.generation + 1,
            // The file's format has no more than 63 bits for a number, and 0 is no recovery.
            recovery: (host.rng.next_u64() >> 1).max(1),
            recovered: true,
            ..self.identity.clone()
        };
        self.replace_identity(host, recovered)
    }

    /// Notes, durably, that ENV knows of the recovery.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn forget_recovery(&mut self, host: &Host) -> Result<(), OpenError> {
        let known = Identity {
            recovered: false,
            ..self.identity.clone()
        };
        self.replace_identity(host, known)
    }

    fn replace_identity(&mut self, host: &Host, identity: Identity) -> Result<(), OpenError> {
        write_toml(host, &self.path, IDENTITY, &identity)?;
        self.identity = identity;
        Ok(())
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How often a process has opened this directory, this time included.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Whether this call made the directory's identity.
    pub fn is_new(&self) -> bool {
        self.created
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the write-ahead log lies.
    pub fn wal(&self) -> PathBuf {
        self.path.join(WAL)
    }

    /// Where the groups' snapshots lie, each in a directory of its own.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }
}

/// `Disk::list` names files only; a foreign directory may hold nothing but directories.
fn has_directories(path: &Path) -> bool {
    [WAL, SNAPSHOTS].iter().any(|dir| path.join(dir).is_dir())
}

/// Whether there is a file of the log. What is in it is for crate `raft` to check.
fn has_log(host: &Host, path: &Path) -> io::Result<bool> {
    let wal = path.join(WAL);
    Ok(wal.is_dir() && !host.disk.list(&wal)?.is_empty())
}

fn read_identity(host: &Host, dir: &Path) -> Result<Identity, OpenError> {
    let path = dir.join(IDENTITY);
    let identity: Identity = read_toml(host, &path)?;
    if identity.format != FORMAT {
        return Err(OpenError::Version {
            path,
            found: identity.format,
            known: FORMAT,
        });
    }
    if identity.environment_id() == 0 || identity.node == 0 {
        return Err(OpenError::Damaged {
            path,
            offset: 0,
            reason: "the environment or node id is missing".to_owned(),
        });
    }
    Ok(identity)
}

/// Counts this start, durably: two lives of a gateway must never have the same number.
fn count_start(
    host: &Host,
    dir: &Path,
    identity: &Identity,
    known: bool,
) -> Result<u64, OpenError> {
    let path = dir.join(STARTS);
    let exists = host.disk.exists(&path).map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    let before = match (known, exists) {
        // Counting from 1 again would make old tokens look like repetitions of new writes.
        (true, false) if identity.formed || has_directories(dir) => {
            let reason = "it is missing, but there is a log".to_owned();
            return Err(OpenError::Damaged {
                path,
                offset: 0,
                reason,
            });
        }
        // The identity is written first: a crash in between leaves it without a count.
        (_, false) => 0,
        (_, true) => read_toml::<Starts>(host, &path)?.count,
    };
    let count = before + 1;
    write_toml(host, dir, STARTS, &Starts { count })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn host() -> Host {
        Host {
            clock: Arc::new(host::RealClock::new()),
            disk: Arc::new(host::RealDisk),
            rng: Arc::new(host::RealRng),
            spawn: Arc::new(host::TokioSpawn::on(tokio::runtime::Handle::current())),
        }
    }

    #[tokio::test]
    async fn identity_stays_and_starts_are_counted() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        let first = DataDir::open(&host, dir.path()).unwrap();
        assert!(first.is_new());
        let identity = first.identity().clone();
        assert!(matches!(
            DataDir::open(&host, dir.path()),
            Err(OpenError::Locked { .. })
        ));
        drop(first);
        let second = DataDir::open(&host, dir.path()).unwrap();
        assert_eq!(
            (second.identity(), second.starts(), second.is_new()),
            (&identity, 2, false)
        );
    }

    #[tokio::test]
    async fn recoveries_of_one_environment_differ_and_stay() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        let recovered = |name: &str| {
            let path = dir.path().join(name);
            let mut opened = DataDir::open(&host, &path).unwrap();
            assert_eq!(opened.identity().generation(), Generation::FIRST);
            opened.mark_recovered(&host).unwrap();
            let generation = opened.identity().generation();
            drop(opened);
            let again = DataDir::open(&host, &path).unwrap();
            assert_eq!(again.identity().generation(), generation);
            generation
        };
        let (one, two) = (recovered("a"), recovered("b"));
        assert_eq!((one.number, two.number), (2, 2));
        assert_ne!(one.nonce, two.nonce);
    }

    #[tokio::test]
    async fn a_lost_count_of_starts_is_damage_once_there_is_a_log() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        drop(DataDir::open(&host, dir.path()).unwrap());
        std::fs::remove_file(dir.path().join(STARTS)).unwrap();
        assert_eq!(DataDir::open(&host, dir.path()).unwrap().starts(), 1);
        std::fs::remove_file(dir.path().join(STARTS)).unwrap();
        std::fs::create_dir(dir.path().join("wal")).unwrap();
        assert!(matches!(
            DataDir::open(&host, dir.path()),
            Err(OpenError::Damaged { .. })
        ));
    }

    #[tokio::test]
    async fn a_formed_directory_without_its_log_is_refused_and_left_alone() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        // A crash after the identity was made, with or without the first files of a log: nothing was acknowledged.
        drop(DataDir::open(&host, dir.path()).unwrap());
        let wal = dir.path().join(WAL);
        std::fs::create_dir(&wal).unwrap();
        std::fs::write(wal.join("segment"), "x").unwrap();
        drop(DataDir::open(&host, dir.path()).unwrap());
        std::fs::remove_dir_all(&wal).unwrap();
        let mut fresh = DataDir::open(&host, dir.path()).unwrap();
        fresh.mark_formed(&host).unwrap();
        drop(fresh);
        let refused = || {
            let opened = DataDir::open(&host, dir.path());
            assert!(matches!(opened, Err(OpenError::LogMissing { .. })));
        };
        refused();
        std::fs::create_dir(&wal).unwrap();
        refused();
        std::fs::remove_file(dir.path().join(STARTS)).unwrap();
        refused();
        assert_eq!(std::fs::read_dir(&wal).unwrap().count(), 0);
        std::fs::write(wal.join("segment"), "x").unwrap();
        // The log is back, the count is not.
        assert!(matches!(
            DataDir::open(&host, dir.path()),
            Err(OpenError::Damaged { .. })
        ));
    }

    #[tokio::test]
    async fn foreign_directories_are_left_alone() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(
            DataDir::open(&host, dir.path()),
            Err(OpenError::Foreign { .. })
        ));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn every_changed_byte_of_the_small_files_is_noticed() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        drop(DataDir::open(&host, dir.path()).unwrap());
        for name in [IDENTITY, STARTS] {
            let path = dir.path().join(name);
            let good = std::fs::read(&path).unwrap();
            for i in 0..good.len() {
                let mut bad = good.clone();
                bad[i] ^= 1;
                std::fs::write(&path, &bad).unwrap();
                let opened = DataDir::open(&host, dir.path());
                assert!(
                    matches!(opened, Err(OpenError::Damaged { .. })),
                    "{name} byte {i}"
                );
            }
            std::fs::write(&path, &good).unwrap();
        }
        assert!(DataDir::open(&host, dir.path()).is_ok());
    }
}
