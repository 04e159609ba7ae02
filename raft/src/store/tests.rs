//! openraft's own suite for storage.

use std::path::PathBuf;
use std::sync::Arc;

use host::Host;
use host::sim::SimDisk;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::{Notify, watch};

use super::*;
use crate::machine::{Machine, Shared};
use crate::snapshot::SnapshotDir;
use crate::wal::WalConfig;
use crate::{Committed, ENV_GROUP, GroupClass, GroupConfig, SnapshotWriter, StateMachine};

struct Nothing;

impl SnapshotWriter for Nothing {
    fn write(&self, _out: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }
}

impl StateMachine for Nothing {
    type Response = ();

    fn apply(&mut self, run: &[Committed]) -> Vec<()> {
        run.iter().map(|_| ()).collect()
    }

    fn snapshot(&self) -> Box<dyn SnapshotWriter> {
        Box::new(Nothing)
    }

    fn restore(&mut self, _snapshot: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

struct Builder;

impl StoreBuilder<Types, GroupStore, Machine> for Builder {
    async fn build(&self) -> Result<((), GroupStore, Machine), StorageError<Types>> {
        let host = Host {
            disk: Arc::new(SimDisk::new(1)),
            ..Host::real()
        };
        let fatal: crate::FatalHook = Arc::new(|error| panic!("{error}"));
        let wal_config = WalConfig {
            segment_bytes: 64 << 10,
            ..WalConfig::new("/wal")
        };
        let wal = Wal::open(&host, wal_config, fatal.clone()).unwrap();
        let config = GroupConfig::new(ENV_GROUP, 1, GroupClass::Env, PathBuf::from("/snapshots"));
        let shared = Shared {
            snapshots: SnapshotDir::open(host.disk.clone(), &config.snapshot_dir).unwrap(),
            config,
            host,
            applied: watch::Sender::new(None),
            snapshot: watch::Sender::new(None),
            snapshot_nanos: Default::default(),
            snapshot_due: Notify::new(),
            // So that the suite goes through the path on which the core task writes.
            alone: true.into(),
            follows: false.into(),
            read_nanos: 0.into(),
            hearing: Default::default(),
            readers: Default::default(),
            stopped: false.into(),
            fatal,
        };
        let shared = Arc::new(shared);
        let store = GroupStore::new(wal, shared.clone());
        let machine = Machine::open(shared, Nothing).unwrap().lenient();
        Ok(((), store, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_storage_suite() {
    Suite::test_all(Builder).await.unwrap();
}
