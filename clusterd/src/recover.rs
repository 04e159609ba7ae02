//! `clusterd recover`: one node goes on after the majority of ENV's voters is lost for good.
//!
//! It is an act of despair: what the lost nodes acknowledged and this one never received is gone. `plan` says what there is; `apply` makes this node the only member of ENV, in a
//! new generation, so that lost nodes that turn up again are refused. At its next start it removes them from the environment; CLUSTERs are placed anew after a while.

use crate::config::{RecoverArgs, RecoverCommand};
use crate::server::fatal_hook;
use anyhow::{Context, Result, bail};
use bootstrap::Member;
use host::Host;
use raft::{ENV_GROUP, Remains, Wal, WalConfig};
use std::sync::Arc;

pub fn run(command: RecoverCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        match command {
            RecoverCommand::Plan(args) => plan(&args),
            RecoverCommand::Apply(args) => apply(&args).await,
        }
    })
}

struct Opened {
    host: Host,
    member: Member,
    wal: Arc<Wal>,
    remains: Remains,
}

/// Opens a directory in which something must be.
fn open(args: &RecoverArgs) -> Result<Opened> {
    let host = Host::real();
    let exists = host.disk.exists(&args.data_dir.join("identity.toml"));
    if !exists.context("looking for identity.toml")? {
        bail!("{} is no data directory of a node", args.data_dir.display());
    }
    let member = Member::open(&host, &args.data_dir, "")?;
    let config = WalConfig {
        expected: true,
        ..WalConfig::new(member.data_dir.wal())
    };
    let wal = Wal::open(&host, config, fatal_hook())?;
    let remains = raft::remains(&wal, ENV_GROUP).context("reading the log")?;
    Ok(Opened {
        host,
        member,
        wal,
        remains,
    })
}

fn plan(args: &RecoverArgs) -> Result<()> {
    let opened = open(args)?;
    let identity = opened.member.data_dir.identity();
    let Remains {
        term,
        last,
        committed,
        voters,
    } = &opened.remains;
    println!("data directory  {}", args.data_dir.display());
    println!("environment     {}", identity.environment);
    println!("generation      {}", identity.generation());
    println!("node            {}", identity.node);
    println!("highest term    {term}");
    match last {
        Some(last) => println!("last entry      term {}, index {}", last.term, last.index),
        None => println!("last entry      none: this node has nothing of the environment"),
    }
    if let Some(committed) = committed {
        println!("known committed index {}", committed.index);
    }
    if !voters.is_empty() {
        let voters: Vec<String> = voters.iter().map(u64::to_string).collect();
        println!("voters          {}", voters.join(", "));
    }
    println!();
    println!(
        "Of the nodes that are left, go on with the one whose last entry has the highest term, then the highest index."
    );
    println!(
        "Lost: whatever the other nodes acknowledged after that entry. Kept: everything up to it, also what was not acknowledged."
    );
    println!(
        "Apply it to that node alone: two nodes that both go on are two environments, which refuse each other."
    );
    println!(
        "The other nodes' directories are refused afterwards: empty them and let them join anew."
    );
    println!(
        "To go on: clusterd recover apply --data-dir {} --confirm {}",
        args.data_dir.display(),
        identity.environment
    );
    opened.wal.close();
    Ok(())
}

async fn apply(args: &RecoverArgs) -> Result<()> {
    let mut opened = open(args)?;
    let identity = opened.member.data_dir.identity().clone();
    if args.confirm.as_deref() != Some(&identity.environment) {
        bail!(
            "this cannot be taken back: give --confirm {} if no majority of the environment's voters will ever come back",
            identity.environment
        );
    }
    let own = opened.member.peers.nodes.get(&identity.node_id());
    let addr = own.map(|peer| peer.address.clone()).unwrap_or_default();
    // Noted first: after a crash in between, applying again does both again, which does no harm.
    opened.member.data_dir.mark_recovered(&opened.host)?;
    let member = raft::Member { addr };
    let pos = raft::go_on_alone(&opened.wal, ENV_GROUP, identity.node, member)
        .await
        .context("writing to the log")?;
    opened.wal.close();
    println!(
        "node {} is the only one of environment {} now: generation {}, term {}, from entry {} on. Start it as usual. \
         Do not apply this to another node: empty the others' directories and let them join anew.",
        identity.node,
        identity.environment,
        opened.member.data_dir.identity().generation(),
        pos.term,
        pos.index
    );
    Ok(())
}
