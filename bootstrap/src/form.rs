//! Forming an environment with others: [`crate::formation`] decides, this talks and writes.

use crate::data_dir::ClaimedDir;
use crate::formation::{Formation, Step};
use crate::hex;
use crate::join::{Invitation, JoinFailed, SAY_EVERY, Say, settle};
use crate::keys::{KeyFiles, Promise, PromisedFounder, Record};
use crate::member;
use crate::token::Secret;
use crate::wire::{self, Admitted, Ask, Founder, MeetReply, Meeting, Reply, Said};
use bytes::Bytes;
use host::{BoxFuture, Host, Instant, TaskHandle};
use mesh::ca::NodeKey;
use mesh::join::{JoinHandler, JoinListener, Question, Role};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Pause between two questions to one node.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Nodes that are asked, whoever named them.
const ADDRESSES_MAX: usize = 128;
/// A node that gives up still answers for this long, so that the others hear why.
const LINGER: Duration = Duration::from_secs(2);

/// Stays until this node is a member of a new environment. `expect` founders have `secret`.
pub(crate) async fn form(
    host: &Host,
    dir: &mut ClaimedDir,
    socket: UdpSocket,
    invitation: &Invitation,
    (secret, expect): (Secret, u32),
    say: Say,
) -> Result<(), JoinFailed> {
    let files = KeyFiles::of(host, dir.path())?;
    let key = files.node_key(host)?;
    let agreed = promised(host, dir, &files, &secret, expect)?;
    let me = Founder {
        public_key: key.public_key().to_vec(),
        address: invitation.advertise.clone(),
    };
    let formation = Formation::new(me, host.rng.next_u64(), expect, agreed);
    let founder = Arc::new(Talk {
        host: host.clone(),
        hash: secret.hash(),
        state: Mutex::new(State {
            formation,
            outcome: None,
            troubles: BTreeMap::new(),
        }),
        changed: Notify::new(),
    });
    let handler: Arc<dyn JoinHandler> = Arc::new(Answers(founder.clone()));
    let listener = Arc::new(JoinListener::start(socket, &key, host, handler)?);
    let mut asking = Asking::default();
    let formed = run(
        &founder,
        dir,
        (&files, &key),
        &listener,
        invitation,
        &mut asking,
        say,
    )
    .await;
    if formed.is_err() {
        host.clock.sleep(LINGER).await;
    }
    drop(asking);
    listener.close().await;
    formed
}

/// What an earlier start has agreed to.
fn promised(
    host: &Host,
    dir: &ClaimedDir,
    files: &KeyFiles,
    secret: &Secret,
    expect: u32,
) -> Result<Option<Vec<Founder>>, JoinFailed> {
    let Some(Record { token, promise }) = files.record(host)? else {
        return Ok(None);
    };
    let other = || JoinFailed::OtherPromise {
        path: dir.path().to_owned(),
    };
    let members = match promise {
        Promise::Form(members) => members,
        Promise::Join => return Err(other()),
    };
    if token != hex::encode(&secret.hash()) || members.len() != expect as usize {
        return Err(other());
    }
    let founder = |member: PromisedFounder| {
        Some(Founder {
            public_key: hex::decode(&member.public_key).ok()?,
            address: member.address,
        })
    };
    let members: Option<_> = members.into_iter().map(founder).collect();
    members.ok_or_else(other).map(Some)
}

fn record(hash: &[u8], members: &[Founder]) -> Record {
    let promised = |founder: &Founder| PromisedFounder {
        public_key: hex::encode(&founder.public_key),
        address: founder.address.clone(),
    };
    Record {
        token: hex::encode(hash),
        promise: Promise::Form(members.iter().map(promised).collect()),
    }
}

async fn run(
    talk: &Arc<Talk>,
    dir: &mut ClaimedDir,
    (files, key): (&KeyFiles, &NodeKey),
    listener: &Arc<JoinListener>,
    invitation: &Invitation,
    asking: &mut Asking,
    say: Say,
) -> Result<(), JoinFailed> {
    let host = &talk.host;
    let mut said: Option<Instant> = None;
    loop {
        asking.begin(talk, listener, &invitation.addresses);
        let now = host.clock.now();
        let (outcome, step) = {
            let mut state = talk.state();
            (state.outcome.take(), state.formation.step(now))
        };
        match outcome {
            Some(Outcome::Admitted(admitted, address)) => {
                return settle(host, dir, key, &admitted, &address);
            }
            Some(Outcome::Void(reason, address)) => {
                return Err(JoinFailed::Refused { address, reason });
            }
            None => {}
        }
        match step {
            Step::Wait => {}
            Step::Agree(members) => {
                files.keep_record(host, &record(&talk.hash, &members))?;
                talk.state().formation.agree(members);
                continue;
            }
            Step::Found(members) => return Ok(member::found(host, dir, key, &members)?),
            Step::Fail(failure) => return Err(failure.into()),
        }
        if said.is_none_or(|said| now.since(said) >= SAY_EVERY) {
            said = Some(now);
            say(&talk.state().status(now));
        }
        tokio::select! {
            biased;
            () = talk.changed.notified() => {}
            () = host.clock.sleep(ASK_EVERY) => {}
        }
    }
}

/// What the listener, those who ask, and the decision share.
struct Talk {
    host: Host,
    hash: [u8; 32],
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    formation: Formation,
    outcome: Option<Outcome>,
    /// Why some addresses give no answer.
    troubles: BTreeMap<String, String>,
}

/// What another founder says for good, and where it is.
enum Outcome {
    Admitted(Admitted, String),
    Void(String, String),
}

impl State {
    fn status(&self, now: Instant) -> String {
        let mut text = self.formation.waits_for(now);
        for (address, trouble) in &self.troubles {
            text.push_str(&format!("\n  {address}: {trouble}"));
        }
        text
    }
}

impl Talk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, meeting: Meeting) {
        let now = self.host.clock.now();
        self.state().formation.heard(now, meeting);
        self.changed.notify_one();
    }

    fn meeting(&self) -> Meeting {
        let now = self.host.clock.now();
        self.state().formation.meeting(now)
    }

    fn answer(&self, question: Question) -> Result<Bytes, String> {
        let Question { binding, body, .. } = question;
        let ask = wire::decode(&body).map_err(|error| error.to_string())?;
        match ask {
            Ask::Meet(said) => {
                if !said.is_proven(binding, &self.hash, Role::Asking) {
                    return Err("its token is not the one of this node".to_owned());
                }
                let meeting = said.decode().map_err(|error| error.to_string())?;
                self.heard(meeting);
                let reply = MeetReply::Meeting(self.meeting());
                let said = Said::new(&reply, binding, &self.hash, Role::Answering);
                Ok(wire::encode(&Reply::Met(said)).into())
            }
            Ask::Authority | Ask::Join(_) => Ok(wire::encode(&Reply::Busy(
                "this node is in no environment yet, it waits for other founders".to_owned(),
            ))
            .into()),
        }
    }

    fn note(&self, address: &str, asked: Result<(), String>) {
        let mut state = self.state();
        match asked {
            Ok(()) => state.troubles.remove(address),
            Err(trouble) => state.troubles.insert(address.to_owned(), trouble),
        };
    }

    /// Asks the node at `address` once. `Err` is for the user.
    async fn ask(&self, listener: &JoinListener, address: &str) -> Result<(), String> {
        let connection = listener.dial(address).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let binding = connection.binding();
        let said = Said::new(&self.meeting(), binding, &self.hash, Role::Asking);
        let answer = connection.ask(&wire::encode(&Ask::Meet(said))).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let unreadable = |error| format!("its answer cannot be read: {error}");
        let said = match wire::decode(&answer).map_err(unreadable)? {
            Reply::Met(said) => said,
            Reply::Busy(reason) | Reply::Refused(reason) => return Err(reason),
            Reply::Authority(_) | Reply::Admitted(_) => {
                return Err("its answer has no place here".to_owned());
            }
        };
        if !said.is_proven(binding, &self.hash, Role::Answering) {
            connection.reject("its token is not the one of the node that asks");
            return Err("its token is not the one of this node".to_owned());
        }
        let outcome = match said.decode().map_err(unreadable)? {
            MeetReply::Meeting(meeting) => {
                self.heard(meeting);
                return Ok(());
            }
            MeetReply::Admitted(admitted) => Outcome::Admitted(admitted, address.to_owned()),
            MeetReply::Void(reason) => Outcome::Void(reason, address.to_owned()),
        };
        self.state().outcome = Some(outcome);
        self.changed.notify_one();
        Ok(())
    }
}

/// Answers other founders.
struct Answers(Arc<Talk>);

impl JoinHandler for Answers {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(std::future::ready(self.0.answer(question)))
    }
}

/// One task for each address. Dropping it ends them.
#[derive(Default)]
struct Asking(BTreeMap<String, TaskHandle>);

impl Asking {
    fn begin(&mut self, talk: &Arc<Talk>, listener: &Arc<JoinListener>, addresses: &[String]) {
        let named = talk.state().formation.addresses();
        for address in addresses.iter().chain(&named) {
            if self.0.contains_key(address) || self.0.len() >= ADDRESSES_MAX {
                continue;
            }
            let task = keep_asking(talk.clone(), listener.clone(), address.clone());
            let task = talk.host.spawn.spawn("join-ask", Box::pin(task));
            self.0.insert(address.clone(), task);
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.values().for_each(TaskHandle::abort);
    }
}

async fn keep_asking(talk: Arc<Talk>, listener: Arc<JoinListener>, address: String) {
    loop {
        let asked = talk.ask(&listener, &address).await;
        talk.note(&address, asked);
        talk.host.clock.sleep(ASK_EVERY).await;
    }
}
